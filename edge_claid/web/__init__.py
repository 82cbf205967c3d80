"""The page: live picture, search, enrolment and gallery browser behind ``edge-claid serve``. Needs the extra ``web``."""
