"""Report -> words: sentences, HTML for the page, the PDF to keep. Deterministic, and in one careful vocabulary."""

from .atlas import placement_facts, placement_text
from .evidence import evidence_facts, evidence_text
from .markup import findings_html
from .paper import report_pdf
from .sentences import call, headline, percent, ranked, suspected

__all__ = [
    "call",
    "evidence_facts",
    "evidence_text",
    "findings_html",
    "headline",
    "percent",
    "placement_facts",
    "placement_text",
    "ranked",
    "report_pdf",
    "suspected",
]
