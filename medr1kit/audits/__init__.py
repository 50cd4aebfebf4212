"""What a score is worth before any model is trained: how far one gets without looking, and what leaks into the test.

Two traps make a medical multiple-choice benchmark look solved. *Wording*: right answers come from a small vocabulary of
classes, wrong ones were made up per question, so whoever counts which texts were right in training needs no image; on
OmniMedVQA this answers 83 to 100 % (:func:`blind_floor`). *Sharing*: several questions ask about one image, and a split
by question puts the same image on both sides (:func:`image_disjoint_split` splits by image).

:func:`audit` measures both, and much more, for any pair of training and test files::

    report = mk.audit(train, test)
    report                            # what is wrong, in sentences, the worst first, with a figure
    report.frame                      # every number
    test.select(report.rows["hard_subset_n"])

An accuracy means sight only as far as it stands above the blind floor of the same split.
"""

from medr1kit.audits.debias import DroppedQuestions, debias_options
from medr1kit.audits.floors import BlindFloor, blind_floor
from medr1kit.audits.repair import image_disjoint_split
from medr1kit.audits.report import AuditReport, audit

__all__ = [
    "AuditReport",
    "BlindFloor",
    "DroppedQuestions",
    "audit",
    "blind_floor",
    "debias_options",
    "image_disjoint_split",
]
