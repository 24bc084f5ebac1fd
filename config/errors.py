"""What a person sees when a request ended in an exception."""

import sys

import redis
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template import loader
from django.views.defaults import server_error

DOWN = (OperationalError, InterfaceError, redis.ConnectionError, redis.TimeoutError)


def failed(request: HttpRequest) -> HttpResponse:
    """Answer 503 when a part that we need does not answer, 500 for a mistake of ours; neither page needs that part."""
    if isinstance(sys.exc_info()[1], DOWN):
        return HttpResponse(loader.render_to_string("503.html"), status=503, headers={"Retry-After": "10"})
    return server_error(request)
