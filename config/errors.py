"""What a person sees when a request ended in an exception."""

import sys
from collections.abc import ItemsView
from types import FrameType
from typing import Any

import redis
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template import loader
from django.views.debug import SafeExceptionReporterFilter
from django.views.defaults import server_error

DOWN = (OperationalError, InterfaceError, redis.ConnectionError, redis.TimeoutError)


class ReportFilter(SafeExceptionReporterFilter):
    """Keeps values out of every report of an exception: what a person posted and what variables held may be a credential."""

    def is_active(self, request: HttpRequest | None) -> bool:
        """Filter in development too."""
        return True

    def get_post_parameters(self, request: HttpRequest | None) -> dict[str, Any]:
        """Name what was posted, without its values."""
        return dict.fromkeys(request.POST, self.cleansed_substitute) if request is not None else {}

    def get_traceback_frame_variables(self, request: HttpRequest | None, tb_frame: FrameType) -> ItemsView[str, Any]:
        """Name the variables, without their values."""
        return dict.fromkeys(tb_frame.f_locals, self.cleansed_substitute).items()


def failed(request: HttpRequest) -> HttpResponse:
    """Answer 503 when a part that we need does not answer, 500 for a mistake of ours; neither page needs that part."""
    if isinstance(sys.exc_info()[1], DOWN):
        return HttpResponse(loader.render_to_string("503.html"), status=503, headers={"Retry-After": "10"})
    return server_error(request)
