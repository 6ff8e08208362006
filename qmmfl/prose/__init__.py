"""Report -> words: sentences, HTML for the page, the PDF to keep. Deterministic, and in one careful vocabulary."""

from .markup import findings_html
from .paper import report_pdf
from .sentences import call, headline, percent, ranked, suspected

__all__ = ["call", "findings_html", "headline", "percent", "ranked", "report_pdf", "suspected"]
