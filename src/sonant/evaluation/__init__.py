"""Measure how often the voice pipeline errs: trials, telephone channels, figures with intervals, reports.

    recordings -> pieces -> channel -> templates -> scores -> figures -> text, JSON, HTML

Terms are those of ISO/IEC 19795-1: a *comparison* of a reference and a probe gives a false match (FMR) or a
false non-match (FNMR); a *transaction* also counts recordings from which no template could be made (failure
to acquire) and gives false acceptance (FAR) and false rejection (FRR).
"""
