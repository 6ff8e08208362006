"""A training that must be able to learn, to stop and go on, and to say what is wrong."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import TINY_TRUNK, tiny_config, tiny_network

pytest.importorskip("tqdm", reason="training needs the train extra")

from qmmfl import labels
from qmmfl.nets import Config
from qmmfl.nets.mobile import MobileTrunk
from qmmfl.nets.synthesis import SynthesisConfig, SynthesisNet
from training import (
    ablate,
    data,
    encoders,
    everything,
    feature_cache,
    heads,
    imagenet,
    loop,
    losses,
    metrics,
    pixels,
    pretrain,
    recipe,
    sanity,
    settled,
    soup,
    synthesis,
    targets,
    tasks,
    taught,
)


def case(split="train", folder="odir5k", **values):
    findings = dict.fromkeys(data.CODES, 0) | values.pop("findings", {})
    return data.Case(folder, "x", split, "g", tuple(findings[c] for c in data.CODES), **values)


def test_unknown_labels_do_not_count():
    known = targets.Targets([case(findings={"DR": 1}, grade=2, oedema=1, gradable=1)])
    unknown = targets.Targets([case(findings=dict.fromkeys(data.CODES, -1), fundus=-1)])
    logits = torch.randn(1, len(targets.OUTPUTS), requires_grad=True)
    cuts = torch.tensor([-1.0, 0.0, 1.0, 2.0])
    silent = sum(targets.loss(logits, cuts, unknown.batch(np.array([0]), torch.device("cpu"))).values())
    assert silent == 0
    loud = sum(targets.loss(logits, cuts, known.batch(np.array([0]), torch.device("cpu"))).values())
    loud.backward()
    assert (logits.grad != 0).all(), "every output has a target here"


def test_the_encoder_of_disc_and_cup_learns_their_ratio_where_a_disc_is_seen():
    rows, columns = np.mgrid[:256, :256]
    seen = np.zeros((256, 256, 2), np.uint8)
    for plane, radius in enumerate((20, 12)):
        seen[..., plane][np.hypot(rows - 128, columns - 180) <= radius] = 255
    assert encoders.ratio(seen) == pytest.approx(6, abs=0.3)
    assert encoders.ratio(np.zeros_like(seen)) == -1
    torch.manual_seed(0)
    _, extras = encoders.Classifier(tiny_config(), "disc_cup")(torch.rand(1, 2, 64, 64))
    assert extras.shape == (1, 3)
    every, cuts = targets.Targets([case()]), torch.tensor([-1.0, 0.0, 1.0, 2.0])

    def term():
        batch = every.batch(np.array([0]), torch.device("cpu"))
        return float(targets.loss(torch.zeros(1, len(targets.OUTPUTS)), cuts, batch, torch.zeros(1, 3))["ratio"])

    assert term() == 0, "unknown until it is measured"
    every.extras[0, 2] = 6
    assert term() == pytest.approx(0.1)


def test_retinopathy_of_an_unknown_grade_is_beyond_the_first_step_alone():
    every = targets.Targets([case(findings={"DR": 1}), case(findings={"DR": 1}, grade=1), case(findings={"DR": -1})])
    cuts = torch.tensor([-1.0, 0.0, 1.0, 2.0])

    def slope(row):
        logits = torch.zeros(1, len(targets.OUTPUTS), requires_grad=True)
        targets.loss(logits, cuts, every.batch(np.array([row]), torch.device("cpu")))["grade"].backward()
        return logits.grad[0, [targets.OUTPUTS.index(name) for name in (targets.GRADE, targets.THREAT)]].tolist()

    assert slope(0) == [pytest.approx(-1 / (1 + np.e)), 0], "beyond none, and nothing else is told"
    assert slope(1)[0] == pytest.approx((0.5 - 1 / (1 + np.e)) / 2)
    assert slope(2) == [0, 0]


def test_that_a_camera_saw_many_severe_eyes_does_not_speak_for_severity():
    def eyes(folder, moderate, severe):
        grades = [0] * 20 + [2] * moderate + [3] * severe
        return [case(folder=folder, grade=grade, findings={"DR": int(grade > 0)}) for grade in grades]

    every = targets.Targets([*eyes("odir5k", 30, 10), *eyes("idrid", 10, 30), case("val", grade=3)])
    drawn = every.sampling(np.arange(len(every.grade) - 1))
    for name in ("odir5k", "idrid"):
        masses = [
            (drawn * every.severity[:-1])[(every.folder == name)[:-1] & (every.grade == grade)[:-1]].sum()
            for grade in (2, 3)
        ]
        assert masses[0] == pytest.approx(masses[1])
    assert (every.severity[every.grade < 2] == 1).all()
    pull = {}
    for folder in ("odir5k", "idrid"):
        moderate = np.flatnonzero((every.folder == folder) & (every.grade == 2))[0]
        logits = torch.zeros(2, len(targets.OUTPUTS), requires_grad=True)
        rows = np.array([moderate, 0])  # beside an eye without retinopathy, which is not asked
        targets.loss(logits, torch.zeros(4), every.batch(rows, torch.device("cpu")))["grade"].backward()
        pull[folder] = logits.grad[:, targets.OUTPUTS.index(targets.THREAT)].tolist()
    assert pull["idrid"][0] > pull["odir5k"][0] > 0, "a moderate eye of a severe set counts for more"
    assert pull["odir5k"][1] == 0


def test_rare_findings_are_drawn_more_often():
    every = targets.Targets([case(findings={"NORMAL": 1}) for _ in range(99)] + [case(findings={"CNV": 1})])
    chances = every.sampling(np.arange(100))
    assert chances.sum() == pytest.approx(1)
    assert chances[99] > 2 * chances[0]


def test_a_blend_of_two_eyes_is_held_to_both_as_far_as_it_shows_them():
    every = targets.Targets([case(findings={"DR": 1}, grade=0), case(findings={"MH": 1}, grade=0)])
    batch = every.batch(np.arange(2), torch.device("cpu")) | {"share": torch.tensor(0.75)}
    assert encoders.blend(torch.tensor([0.0, 1.0]), 0.75).tolist() == [0.25, 0.75]
    logits, cuts = torch.randn(2, len(targets.OUTPUTS)), torch.tensor([-1.0, 0.0, 1.0, 2.0])
    terms = encoders.blended(lambda part: targets.loss(logits, cuts, part), batch)
    soft = batch | {"binary": encoders.blend(batch["binary"], 0.75)}
    for name, term in targets.loss(logits, cuts, soft).items():  # cross entropy is linear in its targets
        assert float(terms[name]) == pytest.approx(float(term), rel=1e-5)
    whole = encoders.blended(lambda part: targets.loss(logits, cuts, part), batch | {"share": torch.tensor(1.0)})
    assert whole["findings"] == targets.loss(logits, cuts, batch)["findings"] != terms["findings"]


@pytest.mark.parametrize(("healthy", "ill", "share"), [(20, 10, 1.41), (10, 20, 1), (2, 98, 0.286)])
def test_a_camera_that_saw_mostly_ill_eyes_does_not_speak_for_disease(healthy, ill, share):
    seen = [case(folder="idrid", grade=0)] * healthy + [case(folder="idrid", grade=2)] * ill
    chances = targets.Targets([*seen, case()]).sampling(np.arange(healthy + ill + 1))
    assert chances[:healthy].sum() / chances[healthy:-1].sum() == pytest.approx(share, rel=0.01)


def test_a_set_chosen_by_its_grade_teaches_how_severe_alone():
    row = {"image": "x", "dr_grade": "3", "split": "train", "group": "g"}
    chosen = data._case("aptos_severe", row, Path())
    assert chosen.grade == 3
    assert set(chosen.findings) == {-1}, "not even that there is retinopathy"
    assert data._case("rahim", row, Path()).findings[data.CODES.index("DR")] == 1
    score, cuts = torch.zeros(1, len(targets.OUTPUTS)), torch.zeros(4, requires_grad=True)
    every = targets.Targets([chosen])
    targets.loss(score, cuts, every.batch(np.array([0]), torch.device("cpu")))["grade"].backward()
    assert cuts.grad.abs().gt(0).tolist() == [False, False, True, True]


@pytest.mark.parametrize(("grade", "told"), [(-1, []), (0, ["GRADE"]), (1, ["GRADE"]), (2, ["GRADE", "VTDR"])])
def test_how_severe_is_asked_of_more_than_mild_retinopathy_alone(grade, told):
    logits = torch.zeros(1, len(targets.OUTPUTS), requires_grad=True)
    batch = targets.Targets([case(grade=grade)]).batch(np.array([0]), torch.device("cpu"))
    targets.loss(logits, torch.tensor([-1.0, 0.0, 1.0, 2.5]), batch)["grade"].backward()
    assert [name for name, slope in zip(targets.OUTPUTS, logits.grad[0], strict=True) if slope] == told


def test_of_an_eye_seen_in_part_only_what_is_everywhere_is_known():
    every = targets.Targets([case(findings={"DR": 1, "ODC": 1}, grade=2, oedema=1)] * 2)
    every.extras[:, 2] = 6
    made = every.seen_in_part(np.array([1, 0]), np.array([True, False]))
    told = dict(zip(data.CODES, made.binary[0], strict=False))
    assert told.pop("DR") == 1
    assert set(told.values()) == {-1}
    assert (made.grade[0], made.extras[0, 2]) == (2, -1)
    assert (made.binary[1] == every.binary[0]).all()
    assert made.extras[1, 2] == 6
    assert every.column("ODC").tolist() == [1, 1], "a view of the same eye that is whole still tells"


def test_an_eye_behind_a_cataract_says_neither_that_it_can_be_read_nor_that_it_has_no_retinopathy():
    row = {"image": "x", "split": "train", "group": "g", "m_DR": "0", "m_MH": "1", "eye_C": "1"}
    clouded, clear = (data._case("odir5k", row | {"eye_C": each}, Path()) for each in "10")
    assert (clouded.grade, clouded.gradable) == (-1, -1)
    assert (clear.grade, clear.gradable) == (0, 1)
    assert clouded.findings == clear.findings


def test_composed_angiogram_has_bright_arteries_and_dark_veins(eye):
    from training.pixels import Sample

    truth = np.stack([eye.planes["artery"], eye.planes["vein"]])
    care = (eye.photograph.max(axis=2) > 0).astype(np.uint8) * 255
    image = pixels.compose_arterial(Sample("x", eye.photograph, (truth * 255).astype(np.uint8), care))
    artery, vein = (plane > 0.9 for plane in truth)
    rest = (care > 0) & (truth.max(axis=0) < 0.1)
    assert image[artery & ~vein].mean() > 2 * image[rest].mean()
    assert image[vein & ~artery].mean() < 0.7 * image[rest].mean()


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_net_learns_and_resumes(tmp_path, monkeypatch, eye, interrupted):
    """Discs of simulated eyes are learnt in seconds; a run cut in two ends where an unbroken one does."""
    monkeypatch.setattr(loop, "RUNS", tmp_path)
    square = torch.from_numpy(eye.photograph).permute(2, 0, 1)[None].float() / 255
    square = torch.nn.functional.interpolate(square, (64, 64), mode="area")
    truth = torch.from_numpy(eye.planes["disc"])[None, None]
    truth = torch.nn.functional.interpolate(truth, (64, 64), mode="area")
    settings = recipe.Recipe(steps=80, rate=1e-2, validate=20)

    def run(stop_after=10**9):
        torch.manual_seed(0)
        net = SynthesisNet(SynthesisConfig(64, "colour", 2, (8, 12), 1))
        drawn = 0

        def draw(generator):
            nonlocal drawn
            drawn += 1
            if drawn > stop_after:
                raise KeyboardInterrupt
            noise = torch.randn(square.shape, generator=generator) * 0.02
            return {"x": net.prepare((square + noise).clamp(0, 1))}

        def loss(module, batch):
            return losses.segmentation_loss(module(batch["x"]), truth, torch.ones_like(truth), (2.0,))

        def validate(module):
            made = module(net.prepare(square)).sigmoid()
            return {"score": metrics.dice(made.numpy() > 0.5, truth.numpy() > 0.5)}

        return loop.fit("disc", net, draw, loss, settings, validate)

    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            run(stop_after=25)
    trained = run()
    made = trained(trained.prepare(square)).sigmoid()
    assert metrics.dice(made.detach().numpy() > 0.5, truth.numpy() > 0.5) > 0.8
    log = (tmp_path / "first" / "disc" / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in log] == ["step", "20", "40", "60", "80"]


def test_batches_drawn_ahead_are_the_same_and_time_ends_a_run(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "RUNS", tmp_path)

    def run(name, **settings):
        drawn = []

        def draw(generator):
            drawn.append(float(torch.rand((), generator=generator)))
            return {"x": torch.tensor([drawn[-1]])}

        def loss(module, batch):
            seen.append(float(batch["x"]))
            return {"loss": module(batch["x"]).square().sum()}

        seen = []
        loop.fit(name, torch.nn.Linear(1, 1), draw, loss, recipe.Recipe(**settings), lambda _: {"score": 0.0})
        return seen

    inline = run("inline", steps=12)
    assert len(set(inline)) == 12
    assert run("ahead", steps=12, drawers=3) == inline
    assert 0 < len(run("timed", steps=10**6, drawers=1, seconds=0.2)) < 10**6
    assert (tmp_path / "first" / "timed" / "best.pt").exists(), "a run that time ends is validated and kept"


def test_what_a_public_net_learnt_is_lent_to_a_trunk(monkeypatch):
    torch.manual_seed(0)
    public = MobileTrunk(3, **TINY_TRUNK)
    monkeypatch.setattr(imagenet, "tensors", lambda: {**public.state_dict(), "classifier": torch.zeros(3)})
    config = tiny_config()
    learner = encoders.Classifier(config, "colour")
    loop.load_start(learner, Path("imagenet"), "")
    trunk = learner.encoder[0]
    colour = torch.rand(1, 3, 128, 128)
    assert torch.equal(trunk.eval()(torch.cat([colour, 0 * colour], 1)), public.eval()(colour))
    assert not torch.equal(trunk(torch.cat([colour, colour], 1)), public(colour)), "local contrast is seen too"
    with pytest.raises(RuntimeError, match="trunk"):
        loop.load_start(encoders.Classifier(config, "msi"), Path("imagenet"), "")


def test_heads_are_fitted_to_an_encoder_that_stays_as_it_is(tmp_path, monkeypatch, numbers):
    """What its features can tell apart is told apart before the first step of what starts from the checkpoint."""
    network = tiny_network()
    encoder = network.encoders["colour"]
    views = numbers.integers(0, 256, (48, 128, 128, 3)).astype(np.uint8)
    views[:] = views[:, :1, :1]  # of one colour each
    for norm in encoder.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):  # statistics of these very views
            norm.momentum = None
            norm.reset_running_stats()
    seen = feature_cache.input_of(labels.COLOUR, feature_cache.tensor(views))
    encoder.train()(seen)
    features = encoder.eval()(seen).mean(dim=(-2, -1))
    ill = (features[:, 0] > features[:, 0].median()).int().tolist()
    splits = np.repeat(["train", "val"], 24)
    cases = [case(split, findings={"DR": sick}, grade=2 * sick) for split, sick in zip(splits, ill, strict=True)]
    monkeypatch.setattr(heads.data, "load", lambda: (cases, views))
    monkeypatch.setattr(heads, "assemble", lambda _: (network, []))
    monkeypatch.setattr(heads, "Config", tiny_config)
    for module in (heads, loop):
        monkeypatch.setattr(module, "RUNS", tmp_path)
    heads.fit("colour", heads.HeadsRecipe(steps=200, batch=16, rate=0.1, validate=200))
    learner = encoders.Classifier(tiny_config(), "colour").eval()
    loop.load_start(learner, tmp_path / "first" / "encoder_colour_heads" / "best.pt", "")
    for name, value in encoder.state_dict().items():
        assert torch.equal(learner.encoder.state_dict()[name], value), name
    said = encoders.logits_of(learner, views, np.arange(24), 128)
    assert ((said[:, targets.OUTPUTS.index("DR")] > 0) == np.array(ill[:24])).mean() > 0.9


def test_heads_take_what_a_run_has_cached_of_their_encoder_and_make_the_rest(tmp_path, monkeypatch, numbers):
    network = tiny_network()
    views = numbers.integers(0, 256, (3, 128, 128, 3)).astype(np.uint8)
    grid = network.config.view // 16
    cached = np.zeros((2, len(labels.MODALITIES), network.config.features, grid, grid), np.float16)
    cached[:, 0] = np.array([3, 5])[:, None, None, None]
    (tmp_path / "first").mkdir()
    np.save(tmp_path / "first" / "features.npy", cached)
    np.save(tmp_path / "first" / "rows.npy", np.array([2, 0]))
    monkeypatch.setattr(heads, "RUNS", tmp_path)
    made, taken = (
        heads.means_of(network, "colour", views, np.arange(3), heads.HeadsRecipe(cached=cached)) for cached in (0, 1)
    )
    assert (taken[2] == 3).all()
    assert (taken[0] == 5).all()
    np.testing.assert_allclose(taken[1], made[1], atol=1e-5)


def test_a_settled_trunk_runs_as_in_use_and_learns_above_its_first_stages_alone(numbers):
    torch.manual_seed(0)
    classifier = encoders.Classifier(tiny_config(), "colour")
    trunk = classifier.encoder[0]
    views = torch.from_numpy(numbers.random((2, 6, 64, 64))).float()
    trunk.train()(views)  # statistics that are not those of a fresh norm
    names, in_use = list(classifier.state_dict()), trunk.eval()(views)
    settled.settle(classifier, 2)
    statistics = {name: value.clone() for name, value in trunk.named_buffers()}
    made = trunk.train()(views)
    assert torch.allclose(made, in_use, atol=1e-5)
    assert list(classifier.state_dict()) == names, "checkpoints fit both ways"
    made.sum().backward()
    assert all(torch.equal(value, statistics[name]) for name, value in trunk.named_buffers())
    learns = {".".join(name.split(".")[:2]) for name, each in trunk.named_parameters() if each.grad is not None}
    assert learns == {f"stages.{number}" for number in range(2, 7)}
    with pytest.raises(ValueError, match="leave out --settled"):
        settled.settle(encoders.Classifier(tiny_config(), "msi"), 2)


def test_correlation_of_patches_ignores_gain_and_what_is_outside(numbers):
    a = torch.from_numpy(numbers.random((2, 1, 64, 64))).float()
    care = torch.zeros(2, 1, 64, 64)
    care[..., 8:40] = 1
    other = torch.where(care > 0, 0.3 * a + 0.2, torch.rand_like(a))
    torch.testing.assert_close(losses.patch_correlation(a, other, care), torch.ones(2, 1), atol=0.02, rtol=0)
    torch.testing.assert_close(losses.patch_correlation(a, -other, care), -torch.ones(2, 1), atol=0.02, rtol=0)
    assert losses.patch_correlation(a, other, torch.zeros_like(care)).abs().max() == 0


def test_recipe_fields_are_options():
    settings, modality = recipe.parse(
        recipe.Recipe, ["msi", "--steps", "7"], modality=[m.name for m in labels.SYNTHESES]
    )
    assert (settings.steps, modality) == (7, "msi")
    with pytest.raises(SystemExit):
        recipe.parse(recipe.Recipe, ["--stepz", "7"])
    assert set(tasks.TASKS) == set(Config().synthesis)


def test_switches_are_options():
    settings, stage = recipe.parse(ablate.AblationRecipe, ["figures", "--final"], stage=("figures",))
    assert (settings.final, stage) == (True, "figures")
    assert recipe.parse(ablate.AblationRecipe, ["--no-final"])[0].final is False


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "RUNS", tmp_path)
    settings = recipe.Recipe(steps=20, validate=20, save=5)

    def loss(module, batch):
        return {"x": module(batch["x"]).mean() * (float("nan") if batch["step"] else 1.0)}

    drawn = iter(range(20))

    def draw(generator):
        return {"x": torch.ones(2, 3), "step": next(drawn) >= 12}

    with pytest.raises(loop.DivergedError, match="step 12"):
        loop.fit("line", torch.nn.Linear(3, 1), draw, loss, settings, lambda module: {"score": 0.0})
    kept = torch.load(tmp_path / "first/line/last.pt", weights_only=True)
    assert kept["step"] == 10
    assert all(value.isfinite().all() for value in kept["module"].values())


def test_a_gradient_that_is_no_number_never_reaches_the_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "RUNS", tmp_path)
    settings = recipe.Recipe(steps=6, validate=6, save=1)
    drawn = iter(range(6))

    def draw(generator):
        return {"x": torch.ones(2, 3), "step": next(drawn)}

    def loss(module, batch):
        term = module(batch["x"]).mean()
        if batch["step"] == 3:
            term.register_hook(lambda gradient: gradient * float("nan"))
        return {"x": term}

    with pytest.raises(loop.DivergedError, match="gradient is no finite number at step 3"):
        loop.fit("line", torch.nn.Linear(3, 1), draw, loss, settings, lambda module: {"score": 0.0})
    kept = torch.load(tmp_path / "first/line/last.pt", weights_only=True)
    assert kept["step"] == 3
    assert all(value.isfinite().all() for part in ("module", "averaged") for value in kept[part].values())


@pytest.mark.slow
@pytest.mark.parametrize(("until", "lines"), [("steps=200, validate=100", 3), ("seconds=1, validate=1_000_000", 2)])
def test_two_processes_share_their_gradients(tmp_path, until, lines):
    """Under torchrun both processes end with the same parameters, and one of them writes."""
    script = tmp_path / "job.py"
    script.write_text(
        "import os\nimport torch\nfrom pathlib import Path\nfrom training import loop, recipe\n"
        f"loop.RUNS = Path({str(tmp_path)!r})\n"
        "torch.manual_seed(0)\nnet = torch.nn.Linear(4, 1)\n"
        "def draw(generator):\n    return {'x': torch.randn(8, 4, generator=generator)}\n"
        "def loss(module, batch):\n"
        "    return {'x': (module(batch['x']) - batch['x'].sum(1, keepdim=True)).square().mean()}\n"
        f"settings = recipe.Recipe(**(dict(steps=1_000_000) | dict({until})), rate=0.1)\n"
        "loop.fit('line', net, draw, loss, settings, lambda module: {'score': 0.0})\n"
        # Each into a file of its own: on one pipe what they say can run together.
        f"said = Path({str(tmp_path)!r}) / ('weights' + os.environ['RANK'])\n"
        "said.write_text(str([round(v, 4) for v in net.weight.flatten().tolist()]))\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    run = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert (tmp_path / "weights0").read_text() == (tmp_path / "weights1").read_text()
    assert (tmp_path / "first/line/log.csv").read_text().count("\n") == lines


def test_an_affine_head_is_as_sharp_as_its_colours():
    """The maps are coarse, the logits follow single pixels."""
    torch.manual_seed(0)
    net = SynthesisNet(SynthesisConfig(64, "colour", 4, (8, 12), 7, "affine")).eval()
    net.start_from(0.15)
    with torch.no_grad():
        net.head[0].weight.zero_()
        assert net(torch.zeros(1, 3, 64, 64)).sigmoid().mean() == pytest.approx(0.15, abs=1e-4)
        net.head[0].bias.view(7, 4)[:, 1] = 1.0  # every band follows green
        x = torch.full((1, 3, 64, 64), -0.5)
        x[0, 1, 20, 30] = 0.5
        made = net(x)
    changed = (made - made[..., :1, :1]).abs().amax(1)[0] > 1e-4
    assert changed.nonzero().tolist() == [[20, 30]]


_OTHERS = ["fusions", "photographs", "figures", *soup.PARTS]


def test_every_stage_of_everything_takes_its_options():
    from importlib import import_module

    lines = everything.commands(everything.Order(run="all"))
    assert {line[3] for line in lines if line[2] == "training.synthesis"} == set(Config().synthesis)
    assert {line[3] for line in lines if line[2] == "training.encoders"} == {m.name for m in labels.MODALITIES}
    fresh = everything.commands(everything.Order(run="all", figures=True))
    assert fresh == [lines[0], *lines[-len(everything.FIGURES) :]], "no figure needs the training of what ships"
    for _, _, name, *rest in lines:
        module = import_module(name)
        kinds = [k for k in vars(module).values() if isinstance(k, type) and issubclass(k, recipe.Settings)]
        own = next((kind for kind in kinds if kind.__module__ == name), kinds[0] if kinds else recipe.Recipe)
        choices = {} if rest[0].startswith("--") else {"first": [m.name for m in labels.MODALITIES] + _OTHERS}
        assert recipe.parse(own, rest, **choices)[0].run == "all"


def test_an_angiogram_starts_from_the_mean_of_arteries_and_veins():
    torch.manual_seed(0)
    vessels = SynthesisNet(SynthesisConfig(64, "contrast", 2, (4, 8), 2)).eval()
    angiogram = SynthesisNet(SynthesisConfig(64, "both", 2, (4, 8), 1)).eval()
    angiogram.load_state_dict(angiogram.adopt(vessels.state_dict()))
    seen = torch.randn(1, 6, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(angiogram(seen), vessels(seen[:, 3:]).mean(1, keepdim=True))


def test_a_photograph_held_to_the_teacher_s_vessels_keeps_its_own_brightness(tmp_path):
    config = Config().synthesis["ffa_arteriovenous"]
    task = tasks.Arteriovenous(config, synthesis.SynthesisRecipe(teacher=tmp_path / "best.pt"))
    truth = torch.rand(2, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    known, held = torch.ones(1, 1, 128, 128), torch.full((1, 1, 128, 128), taught.CARE / 255)
    made = 0.1 + 0.5 * truth

    def terms(care):
        return task.loss(made.logit(), {"truth": truth, "care": torch.cat(care)})

    darker = terms([held, held])
    assert darker["level"] == 0
    assert (
        darker["teacher"]
        < 0.01
        < task.loss(-made.logit(), {"truth": truth, "care": held.repeat(2, 1, 1, 1)})["teacher"]
    )
    assert terms([known, known])["level"] > 0.05
    assert terms([known, known])["teacher"] == 0


def test_photographs_of_other_cameras_bring_the_teacher_s_vessels(tmp_path, monkeypatch):
    config, path = Config(), tmp_path / "best.pt"
    torch.save({"averaged": SynthesisNet(config.synthesis["vessels"]).state_dict()}, path)
    square = np.zeros((512, 512, 3), np.uint8)
    square[100:400, 100:400] = 90
    eye = pixels.Sample("x", square, np.zeros((1, 512, 512), np.uint8), np.zeros((512, 512), np.uint8))
    monkeypatch.setattr(pixels, "photographs", lambda *_: iter([eye]))
    monkeypatch.setattr(pixels, "angiograms", lambda *_: iter([eye]))
    task = tasks.Arteriovenous(config.synthesis["ffa_arteriovenous"], synthesis.SynthesisRecipe(teacher=path))
    (_, often), (others, seldom) = task.sources()
    assert seldom < often
    assert others[0].truth.shape == (1, 512, 512)
    assert set(np.unique(others[0].care)) == {0, taught.CARE}
    assert len(tasks.Arteriovenous(task.config, synthesis.SynthesisRecipe()).sources()) == 1


def test_lesions_are_held_to_what_the_teacher_finds_in_the_mirrored_eye_too(tmp_path, monkeypatch):
    net = tiny_network().synthesis["lesions"]
    monkeypatch.setattr(taught, "Config", tiny_config)
    torch.save({"averaged": net.state_dict()}, tmp_path / "best.pt")
    square = np.zeros((128, 128, 3), np.uint8)
    square[10:100, 20:120] = np.random.default_rng(0).integers(60, 120, (90, 100, 3))
    eye = pixels.Sample("x", square, np.zeros((4, 128, 128), np.uint8), np.zeros((128, 128), np.uint8))
    turned = pixels.Sample("y", square[:, ::-1].copy(), eye.truth, eye.care)
    monkeypatch.setattr(pixels, "retinopathy", lambda *_: iter([eye, turned]))
    upright, mirrored = taught.lesions(tmp_path, 128, tmp_path / "best.pt")
    np.testing.assert_allclose(mirrored.truth[..., ::-1], upright.truth, atol=1)
    assert len(np.unique(upright.truth[:, 20:90, 30:110])) > 2, "soft, not yes or no"
    assert not upright.truth[:, square.max(axis=2) == 0].any()
    assert set(np.unique(upright.care)) == {0, taught.CARE}


def test_a_teacher_s_lesions_count_as_probabilities_and_labels_as_before(tmp_path):
    config = Config().synthesis["lesions"]
    task = tasks.Lesions(config, synthesis.SynthesisRecipe(teacher=tmp_path))
    alone = tasks.Lesions(config, synthesis.SynthesisRecipe())
    generator = torch.Generator().manual_seed(0)
    truth, logits = torch.rand(2, 4, 32, 32, generator=generator), torch.randn(2, 4, 32, 32, generator=generator)
    known = torch.ones(2, 1, 32, 32)
    held = known * taught.CARE / 255
    labelled = {"truth": truth.round(), "care": known}
    own = task.loss(logits, labelled)
    assert own["teacher"] == 0
    for name, value in alone.loss(logits, labelled).items():
        assert own[name] == value
    soft = {"truth": truth, "care": held}
    same, other = task.loss(truth.logit(), soft), task.loss(truth.logit() + 0.5, soft)
    assert same["entropy"] == same["dice"] == other["dice"] == 0
    assert same["teacher"] < other["teacher"] - 0.01


def test_an_encoder_starts_from_what_was_hidden(tmp_path):
    torch.manual_seed(0)
    config = tiny_config()
    module = pretrain.Masked(config, "colour")
    views = torch.rand(2, 3, 128, 128)
    kept = pretrain.hide(128, 2, 0.5, torch.Generator().manual_seed(1))
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    assert module(views, kept).shape == module.target(views).shape == (2, 3, 16, 16)
    pretrain.wrong(module, views, kept).backward()
    assert pretrain.wrong(module, views, torch.ones_like(kept)) == 0, "only what is hidden counts"
    torch.save({"averaged": module.state_dict()}, tmp_path / "best.pt")
    learner = encoders.Classifier(config, "colour")
    heads = learner.heads.weight.clone()
    loop.load_start(learner, tmp_path / "best.pt", "")
    assert torch.equal(learner.encoder[0].stem[0].weight, module.encoder[0].stem[0].weight)
    assert torch.equal(learner.heads.weight, heads)
    state = {k: v for k, v in module.state_dict().items() if "encoder.0" not in k}
    torch.save({"averaged": state}, tmp_path / "best.pt")
    with pytest.raises(RuntimeError, match="Missing key"):
        loop.load_start(learner, tmp_path / "best.pt", "")


def test_no_eye_with_lesion_masks_is_learnt_from_without_them(tmp_path):
    """IDRiD's graded photographs and those with masks are numbered apart: the same photograph has two names."""
    head = "image,dr_grade,split\n"
    for name in ("idrid", "rahim", "eyepacs", "odir5k"):
        folder = tmp_path / "cls" / name
        (folder / "images").mkdir(parents=True)
        rows = "".join(f"{stem}.png,2,train\n" for stem in ("IDRiD_020", "IDRiD_021") if name in ("idrid", "rahim"))
        (folder / "labels.csv").write_text(head + rows)
        for stem in ("IDRiD_020", "IDRiD_021"):
            cv2.imwrite(
                str(folder / "images" / f"{stem}.png"),
                cv2.circle(np.zeros((300, 300, 3), np.uint8), (150, 150), 140, (40, 80, 150), -1),
            )
    (tmp_path / "seg" / "idrid_lesions").mkdir(parents=True)
    twins = tmp_path / "seg" / "idrid_lesions" / "same_image_in_grading.csv"
    twins.write_text("seg_stem,grading_stem,grading_image\nIDRiD_73,train_IDRiD_020,IDRiD_020.png\n")
    assert data.graded_twins(tmp_path) == {"IDRiD_73": "IDRiD_020.png"}
    learnt = [sample.name for sample in pixels.retinopathy(tmp_path, 128)]
    assert learnt == ["IDRiD_021.png", "IDRiD_020.png", "IDRiD_021.png"], "the other set may use the name"


def test_kinds_of_maps_that_are_measured_later_join_those_of_the_same_eyes():
    def found(eyes, **maps):
        test = {"dataset": "d", "code": "DR", "eyes": eyes}
        return {"agreement": [{**test, "maps": dict(maps)}], "trust": {**test, "maps": dict(maps)}, "cost": eyes}

    whole = sanity.joined(found(12, slow=1, quick=2), found(12, quick=3))
    assert whole == found(12, slow=1, quick=3)
    assert sanity.joined(found(11, slow=1), found(12, quick=3)) == found(12, quick=3), "of other eyes"
    assert sanity.joined(None, found(12, quick=3)) == found(12, quick=3)
