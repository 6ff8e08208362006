// The page's own script: pictures are moved, layered and compared here, in the browser, without asking the server.
// It stores nothing and fetches nothing but the pictures of the case. Listeners sit on the document, since Gradio
// replaces what lies below it.
"use strict";
window.qmmfl = (() => {
  const views = new WeakMap(); // viewer -> {zoom, x, y}: x, y are shares of the pane's side
  const STEP = 1.25, MOST = 16, BLINK = 800; // [ms]: slower than three flashes in a second
  const TELL = 60_000; // [ms] between two words to the server that the page is in use
  const all = (root, query) => [...root.querySelectorAll(query)];
  const one = query => document.querySelector(query);
  const view = viewer => views.get(viewer) || (views.set(viewer, { zoom: 1, x: 0, y: 0 }), views.get(viewer));
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const active = viewer => one(`#viewer .pane[data-pane="${viewer.dataset.active}"]`) || viewer.querySelector(".pane");
  let blinking = null, picked = null, noting = null;

  function place(viewer) {
    const at = view(viewer);
    at.x = clamp(at.x, 1 - at.zoom, 0);
    at.y = clamp(at.y, 1 - at.zoom, 0);
    for (const world of all(viewer, ".world"))
      world.style.transform = `translate(${100 * at.x}%, ${100 * at.y}%) scale(${at.zoom})`;
  }

  function zoom(viewer, factor, x = 0.5, y = 0.5) {
    const at = view(viewer), now = clamp(at.zoom * factor, 1, MOST);
    at.x = x - (x - at.x) * now / at.zoom;
    at.y = y - (y - at.y) * now / at.zoom;
    at.zoom = now;
    place(viewer);
  }

  function move(viewer, dx, dy) {
    const at = view(viewer);
    at.x += dx;
    at.y += dy;
    place(viewer);
  }

  function reset(viewer) {
    views.set(viewer, { zoom: 1, x: 0, y: 0 });
    for (const range of all(viewer, "[name=brightness], [name=contrast]")) range.value = 100;
    place(viewer);
    shade(viewer);
  }

  function shade(viewer) {
    for (const name of ["brightness", "contrast", "outlines"]) {
      const range = viewer.querySelector(`[name=${name}]`);
      if (range) viewer.style.setProperty(`--${name}`, range.value / 100);
    }
    for (const pane of all(viewer, ".pane"))
      pane.style.setProperty("--opacity", pane.querySelector("[name=opacity]").value / 100);
  }

  function layers(viewer) {
    viewer.classList.toggle("both", Boolean(viewer.querySelector("[name=both]")?.checked));
    for (const box of all(viewer, "[name=layer]"))
      for (const image of all(viewer, `.layer-${box.value}`)) image.style.visibility = box.checked ? "" : "hidden";
  }

  function draw(pane) {
    const select = pane.querySelector("select"), option = select.selectedOptions[0];
    const over = pane.querySelector(".over"), made = option.dataset.synthesized === "1", keep = pane.querySelector(".keep");
    const address = option.dataset.address, shown = made && Boolean(address);
    pane.dataset.picture = option.value;
    pane.querySelector(".ground").classList.toggle("redfree", option.value === "redfree");
    over.hidden = !shown;
    if (shown && over.getAttribute("src") !== address) over.src = address;
    pane.querySelector(".slide").style.visibility = shown ? "" : "hidden"; // a photograph has no opacity
    over.alt = `${option.textContent}, ${made ? "synthesized" : "as acquired"}`;
    pane.querySelector(".badge").hidden = !shown;
    keep.hidden = !address || option.value === "redfree"; // that one exists in the browser only
    keep.href = address;
    const viewer = pane.closest(".viewer"), of = option.value === "score" ? `_${one("#score [data-score]")?.dataset.code}` : "";
    keep.download = `${viewer.dataset.side}${option.value}${of}.jpg`;
    const seen = all(viewer, ".pane:not(.away)").map(each => each.dataset.picture || each.querySelector("select").value);
    for (const tile of all(document, ".tile")) tile.setAttribute("aria-pressed", seen.includes(tile.dataset.show));
  }

  function show(viewer, key, pane = active(viewer)) {
    const select = pane.querySelector("select");
    if (![...select.options].some(option => option.value === key)) return;
    select.value = key;
    draw(pane);
  }

  // Where a picture opens that was asked for elsewhere: beside the photograph, or in the one pane that is seen.
  function opening(viewer) {
    return all(viewer, ".pane:not(.away)").at(-1);
  }

  function turn(viewer, step) {
    const pane = active(viewer), select = pane.querySelector("select"), count = select.options.length;
    select.selectedIndex = (select.selectedIndex + step + count) % count;
    draw(pane);
  }

  function activate(viewer, number) {
    viewer.dataset.active = number;
  }

  function panes(viewer, count) {
    if (all(viewer, ".pane").length < 2) return;
    viewer.dataset.panes = count;
    if (count === 1) for (const pane of all(viewer, ".pane")) pane.classList.toggle("away", pane !== active(viewer));
    else for (const pane of all(viewer, ".pane")) pane.classList.remove("away");
    draw(active(viewer));
  }

  function blink(viewer) {
    const pane = active(viewer);
    const stop = () => { clearInterval(blinking); blinking = null; viewer.classList.remove("blinked"); pressed(false); };
    const pressed = on => viewer.querySelector("[data-act=blink]")?.setAttribute("aria-pressed", on);
    if (blinking) return stop();
    if (pane.querySelector(".over").hidden) show(viewer, "ffa_arteriovenous");
    pressed(true);
    viewer.classList.add("blinked");
    blinking = setInterval(() => viewer.isConnected ? viewer.classList.toggle("blinked") : stop(), BLINK);
  }

  function boxes(viewer, group) {
    const found = all(viewer, `[name=layer]${group ? `[data-group="${group}"]` : ""}`), on = !found.some(box => box.checked);
    for (const box of found) box.checked = on;
    layers(viewer);
  }

  function spread(viewer) {
    const box = viewer.querySelector("[name=both]");
    if (box) box.checked = !box.checked;
    layers(viewer);
  }

  function slide(viewer, name, by) {
    const range = (name === "opacity" ? active(viewer) : viewer).querySelector(`[name=${name}]`);
    range.value = Number(range.value) + by;
    shade(viewer);
  }

  function full(viewer) {
    if (document.fullscreenElement) document.exitFullscreen();
    else viewer.requestFullscreen?.();
  }

  function keys(viewer) {
    const list = viewer.querySelector(".keys");
    list.hidden = !list.hidden;
    if (list.hidden) viewer.focus(); else list.querySelector("button").focus();
  }

  const PRESSED = {
    "+": v => zoom(v, STEP), "=": v => zoom(v, STEP), "-": v => zoom(v, 1 / STEP), "0": reset,
    "ArrowLeft": v => move(v, 0.08, 0), "ArrowRight": v => move(v, -0.08, 0),
    "ArrowUp": v => move(v, 0, 0.08), "ArrowDown": v => move(v, 0, -0.08),
    "1": v => panes(v, 1), "2": v => panes(v, 2),
    "w": v => { activate(v, 1 - v.dataset.active); panes(v, Number(v.dataset.panes)); },
    "n": v => turn(v, 1), "p": v => turn(v, -1), "r": v => show(v, "redfree"), "h": v => show(v, "score"), "b": blink,
    "[": v => slide(v, "opacity", -10), "]": v => slide(v, "opacity", 10),
    "u": spread, "o": v => boxes(v), "l": v => boxes(v, "L"), "d": v => boxes(v, "D"), "v": v => boxes(v, "V"),
    "g": v => slide(v, "brightness", 10), "G": v => slide(v, "brightness", -10),
    "c": v => slide(v, "contrast", 10), "C": v => slide(v, "contrast", -10), "f": full, "?": keys,
  };
  const ACTS = {
    "zoom-in": v => zoom(v, STEP), "zoom-out": v => zoom(v, 1 / STEP), fit: reset, blink, full, keys,
    panes: v => panes(v, v.dataset.panes === "1" ? 2 : 1),
  };

  // A finding was chosen: the server draws its map, then `score` puts it into the viewer.
  function pick(code) {
    picked = code;
    if (one("#score [data-score]")?.dataset.code === code) score(); // it is here already
    else one("#pick").click();
  }

  function score(open = true) {
    const viewer = one("#viewer .viewer"), found = one("#score [data-score]"), address = found?.dataset.score || "";
    if (!viewer) return;
    for (const option of all(viewer, 'option[value="score"]')) {
      option.dataset.address = address;
      option.textContent = found ? found.dataset.title : "Heat map of the chosen finding";
    }
    for (const image of all(document, '.tile[data-show="score"] img')) {
      image.hidden = !address;
      if (address) image.src = address;
    }
    if (address && open) show(viewer, "score", opening(viewer));
    else for (const pane of all(viewer, ".pane")) draw(pane);
    for (const button of all(document, "[data-finding]"))
      button.setAttribute("aria-pressed", button.dataset.finding === found?.dataset.code);
  }

  // The clinician's reviews, as JSON for the server. Gradio may draw the form anew from what the server knew when the
  // eye was read, so what was said since is kept here until the case is cleared, also where its photographs are gone.
  let said = {}, lately = ""; // photograph -> review; the photograph whose form was seen last
  const unkept = new Set(); // photographs whose review no file holds
  function hear(form) {
    const opinions = Object.fromEntries(all(form, "input[type=radio]:checked").map(box => [box.name, box.value]));
    const [grade, note] = ["grade", "note"].map(name => form.querySelector(`[name=${name}]`).value);
    said[form.dataset.eye] = { eye: form.dataset.eye, opinions, grade, note };
    unkept[grade || note || Object.values(opinions).some(Boolean) ? "add" : "delete"](form.dataset.eye);
  }

  function fill(form) {
    form.dataset.filled = "yes";
    // What is typed on would be said of another eye.
    if (lately && form.dataset.eye !== lately && form.contains(document.activeElement)) document.activeElement.blur();
    lately = form.dataset.eye;
    const known = said[lately];
    if (!known) return form.reset(); // Gradio makes the next eye's form of this one, answers and all
    for (const box of all(form, "input[type=radio]")) box.checked = (known.opinions[box.name] || "") === box.value;
    for (const name of ["grade", "note"]) form.querySelector(`[name=${name}]`).value = known[name];
  }

  function review() {
    clearTimeout(noting); // what is sent now need not be sent again
    return JSON.stringify(Object.values(said));
  }

  function forget() {
    said = {};
    unkept.clear();
  }

  function make() {
    if (one("#tab-report")?.checkVisibility()) one("#report-make").click();
  }

  function noted(wait) {
    clearTimeout(noting);
    noting = setTimeout(() => one("#review-keep")?.click(), wait);
  }

  // A box on the photograph, as shares of its sides: x, y, width, height.
  function boxed(frame, box) {
    const least = 0.02, [x, y, w, h] = box, width = clamp(w, least, 1), height = clamp(h, least, 1);
    frame.dataset.box = [clamp(x, 0, 1 - width), clamp(y, 0, 1 - height), width, height].map(v => v.toFixed(4)).join(" ");
    const [left, top, wide, tall] = frame.dataset.box.split(" ").map(v => `${100 * v}%`);
    Object.assign(frame.querySelector(".box").style, { left, top, width: wide, height: tall });
    frame.setAttribute("aria-valuetext", `left ${left}, top ${top}, width ${wide}, height ${tall}`);
  }

  const BOX = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  function pushBox(frame, event) {
    const step = BOX[event.key], box = frame.dataset.box.split(" ").map(Number);
    if (!step) return;
    event.preventDefault();
    const at = event.shiftKey ? 2 : 0;
    box[at] += 0.02 * step[0];
    box[at + 1] += 0.02 * step[1];
    boxed(frame, box);
  }

  // The atlas: one tab stop; arrow keys go to the nearest point in their direction.
  function choose(map, point) {
    for (const each of all(map, ".chosen")) each.classList.remove("chosen");
    point.classList.add("chosen");
    point.parentNode.insertBefore(point, map.querySelector(".here")); // above the others
    map.dataset.chosen = point.dataset.row;
    one("#atlas-said").textContent = point.dataset.label;
  }

  function walk(map, event) {
    const step = BOX[event.key], points = all(map, "[data-row]");
    if (!step || !points.length) return;
    event.preventDefault();
    const place = point => [Number(point.dataset.x), Number(point.dataset.y)];
    const from = map.querySelector(".chosen"), [x, y] = from ? place(from) : map.dataset.here.split(" ").map(Number);
    let best = null, least = Infinity;
    for (const point of points) {
      const [px, py] = place(point), ahead = (px - x) * step[0] + (py - y) * step[1];
      const aside = Math.abs((px - x) * step[1]) + Math.abs((py - y) * step[0]);
      if (point !== from && ahead > 0.01 && ahead + 2 * aside < least) [best, least] = [point, ahead + 2 * aside];
    }
    if (best) choose(map, best);
  }

  document.addEventListener("click", event => {
    const target = event.target.closest?.("[data-act], [data-show], [data-finding], .atlas [data-row], .pane");
    if (!target) return;
    const viewer = one("#viewer .viewer");
    if (target.dataset.act) ACTS[target.dataset.act](target.closest(".viewer"));
    else if (target.dataset.finding) pick(target.dataset.finding);
    else if (target.dataset.row) choose(target.closest(".atlas"), target);
    else if (target.dataset.show) show(viewer, target.dataset.show, opening(viewer));
    else activate(target.closest(".viewer"), target.dataset.pane);
  });

  document.addEventListener("input", event => {
    const viewer = event.target.closest(".viewer"), name = event.target.name;
    if (event.target.closest("#review form")) { hear(event.target.form); return noted(400); }
    if (!viewer) return;
    if (name === "layer" || name === "both") layers(viewer);
    else if (event.target.type === "range") shade(viewer);
    else if (event.target.matches("select")) { activate(viewer, event.target.closest(".pane").dataset.pane); draw(event.target.closest(".pane")); }
  });

  document.addEventListener("click", event => {
    const button = event.target.closest?.("#pdf, #json, #csv, #dicom");
    if (button?.id === "csv") unkept.clear(); // every review, the others that of the eye on the page
    else if (button) unkept.delete(one("#review form")?.dataset.eye);
  });

  window.addEventListener("beforeunload", event => {
    if (!unkept.size) return;
    event.preventDefault(); // the browser asks
    event.returnValue = true; // an older one
  });

  document.addEventListener("submit", event => event.target.closest("#review") && event.preventDefault());

  document.addEventListener("keydown", event => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.target.matches?.(".boxer")) return pushBox(event.target, event);
    if (event.target.matches?.(".atlas")) return walk(event.target, event);
    const viewer = event.target.closest?.(".viewer"), typing = event.target.matches?.("select, input[type=range]");
    if (!viewer || (typing && (event.key.startsWith("Arrow") || event.target.matches("select")))) return;
    if (event.key === "Escape" && !viewer.querySelector(".keys").hidden) return keys(viewer);
    const act = PRESSED[event.key] || PRESSED[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    act(viewer);
  });

  document.addEventListener("wheel", event => {
    const stage = event.target.closest?.(".viewer .stage");
    if (!stage) return;
    event.preventDefault();
    const box = stage.getBoundingClientRect();
    // A notch of a wheel, 100 px or three lines, is a step. A touchpad tells a swipe in many small parts, a pinch as a
    // wheel with the control key in smaller ones still, and sideways in none.
    const notches = event.deltaY * (event.ctrlKey ? 10 : 1) / (event.deltaMode ? 3 : 100);
    zoom(stage.closest(".viewer"), STEP ** -clamp(notches, -1, 1), (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  }, { passive: false });

  let drag = null; // {what, pointer, x, y, box}
  document.addEventListener("pointerdown", event => {
    const what = event.target.closest?.(".viewer .stage, .boxer");
    if (!what || event.button) return;
    if (drag?.what.isConnected && drag.pointer !== event.pointerId) return; // a second finger moves nothing
    event.preventDefault();
    (what.closest(".viewer") || what).focus({ preventScroll: true });
    drag = { what, pointer: event.pointerId, x: event.clientX, y: event.clientY, box: what.getBoundingClientRect() };
  });
  document.addEventListener("pointermove", event => {
    if (drag?.pointer !== event.pointerId) return;
    const { what, box } = drag, share = (x, y) => [(x - box.left) / box.width, (y - box.top) / box.height];
    if (what.matches(".boxer")) {
      const within = (x, y) => share(x, y).map(v => clamp(v, 0, 1)); // the pointer may leave the picture, the box not
      const [a, b] = within(drag.x, drag.y), [c, d] = within(event.clientX, event.clientY);
      return boxed(what, [Math.min(a, c), Math.min(b, d), Math.abs(c - a), Math.abs(d - b)]);
    }
    move(what.closest(".viewer"), (event.clientX - drag.x) / box.width, (event.clientY - drag.y) / box.height);
    [drag.x, drag.y] = [event.clientX, event.clientY];
  });
  for (const kind of ["pointerup", "pointercancel"])
    document.addEventListener(kind, event => { if (drag?.pointer === event.pointerId) drag = null; });

  // The case is deleted when the page was not used for an hour, and most of what is done here asks nothing of the server.
  let used = 0; // [ms] when the server was told last that the page is in use
  for (const kind of ["click", "input", "keydown", "wheel"])
    document.addEventListener(kind, () => {
      if (Date.now() - used < TELL || !one("#viewer img")) return;
      used = Date.now();
      one("#case-keep")?.click();
    }, { capture: true, passive: true });

  // Gradio replaces the viewer and the score panel when an answer comes: fit the one into the other.
  let seen = ["", ""];
  new MutationObserver(() => {
    const viewer = one("#viewer .viewer"), found = one("#score [data-score]"), form = one("#review form");
    const more = one('#upload [aria-label="common.upload"]'); // Gradio 6.31 has no word for its own button
    if (more) more.ariaLabel = more.title = "Add a photograph";
    if (one("#viewer .cleared")) forget();
    if (form && (!form.dataset.filled || form.dataset.eye !== lately)) fill(form);
    const now = [viewer?.querySelector(".ground").getAttribute("src") || "", found?.dataset.score || ""];
    // Where Gradio patches the viewer, its selects and boxes keep what was chosen and its pictures do not.
    const patched = viewer && now[0] === seen[0] && all(viewer, ".pane").some(pane => !pane.dataset.picture);
    if (patched) { place(viewer); shade(viewer); layers(viewer); score(false); }
    if (now[0] === seen[0] && now[1] === seen[1]) return;
    const same = now[0] === seen[0];
    seen = now;
    if (viewer && !same) { reset(viewer); layers(viewer); picked = null; }
    score(same && picked !== null);
  }).observe(document.documentElement, { childList: true, subtree: true, attributeFilter: ["src", "data-score", "data-eye", "data-filled"] });

  return { picked: () => picked, review, make, box: () => one("#boxer .boxer")?.dataset.box || "" };
})();
