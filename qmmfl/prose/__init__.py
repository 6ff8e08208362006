"""Report -> words: sentences, HTML for the page, the PDF to keep. Deterministic, and in one careful vocabulary."""

from .atlas import placement_facts, placement_text
from .doubts import conflicts, macula_doubt, reservations
from .evidence import evidence_facts, evidence_text, place_facts, vessel_facts
from .markup import findings_html
from .paper import report_pdf
from .sentences import call, first_map, ranked
from .synopsis import headline
from .wording import percent

__all__ = [
    "call",
    "conflicts",
    "evidence_facts",
    "evidence_text",
    "findings_html",
    "first_map",
    "headline",
    "macula_doubt",
    "percent",
    "place_facts",
    "placement_facts",
    "placement_text",
    "ranked",
    "report_pdf",
    "reservations",
    "vessel_facts",
]
