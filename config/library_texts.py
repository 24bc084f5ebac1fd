"""Texts that makemessages finds nowhere else, so that they come into our catalogue, which is asked first. Nothing imports this."""

from django.utils.translation import gettext_noop, ngettext_lazy

TEXTS = (
    # django.contrib.auth.password_validation, since 5.2; Django's own Chinese catalogue has only the older wording.
    ngettext_lazy(
        "This password is too short. It must contain at least %d character.",
        "This password is too short. It must contain at least %d characters.",
        8,
    ),
    # The same page's rules: Django's Chinese says 你 where all of ours says 您.
    gettext_noop("Your password can’t be too similar to your other personal information."),
    gettext_noop("Your password can’t be a commonly used password."),
    gettext_noop("Your password can’t be entirely numeric."),
    ngettext_lazy(
        "Your password must contain at least %(min_length)d character.",
        "Your password must contain at least %(min_length)d characters.",
        "min_length",
    ),
    # Prices of models as accounts.explain.said_price asks for them: with {} for every number.
    gettext_noop("{} per request"),
    gettext_noop("{} in, {} out per {} tokens"),
)
