"""The page behind ``edge-claid serve``: live picture, search, enrolment, gallery. Needs the extra ``web``."""
