"""The page that takes a list of conversations, each with a new title or model: for a new job, or for a selection that is there already."""

from __future__ import annotations

import secrets
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from accounts.access import find

from . import jobs, list_files, lists
from .models import Action, Job, Order


class ListForm(forms.Form):
    """A file or a pasted text, and what its lines are about."""

    action = forms.ChoiceField(
        label=gettext_lazy("What the list holds"),
        widget=forms.RadioSelect,
        choices=[(Action.SET_TITLE.value, gettext_lazy("New titles")), (Action.SWITCH_MODEL.value, gettext_lazy("New models"))],
    )
    file = forms.FileField(label=gettext_lazy("File"), required=False, allow_empty_file=True)
    text = forms.CharField(label=gettext_lazy("Or paste the lines"), required=False, strip=False, widget=forms.Textarea(attrs={"rows": 6}))

    def __init__(self, action: str, data: Any = None, files: Any = None) -> None:
        super().__init__(data, files, initial={"action": action if action in lists.VALUES else Action.SET_TITLE})
        self.fields["file"].widget.attrs["accept"] = ".csv,.tsv,.txt,.json,.jsonl,text/csv,application/json"
        self.fields["text"].widget.attrs |= {"autocomplete": "off", "spellcheck": "false"}

    def clean(self) -> dict[str, Any]:
        """Reads the file, or else what was pasted, as text; an error is shown where the list came from."""
        data = self.cleaned_data
        uploaded = data.get("file")
        if not uploaded and not data.get("text"):
            self.add_error("file", _("Choose a file, or paste the lines."))
        elif uploaded:
            try:
                data["lines"] = list_files.decode(uploaded.read(list_files.MAX_BYTES + 1), uploaded.size)
            except ValidationError as error:
                self.add_error("file", error)
        else:
            data["lines"] = data["text"]
        return data

    @property
    def source(self) -> str:
        """The field that the list came from."""
        return "file" if self.cleaned_data.get("file") else "text"

    @property
    def name(self) -> str:
        """The name of the file, for people."""
        return str(self.cleaned_data["file"].name) if self.cleaned_data.get("file") else ""


@require_http_methods(["GET", "HEAD", "POST"])
def job_from_list(request: HttpRequest, pk: int | None = None) -> HttpResponse:
    """Makes a job of what a list names, or plans the draft `pk` with it; errors are shown at the field, with their lines."""
    job = find(Job.objects.editable_by(request.user), Job.objects.visible_to(request.user), pk=pk) if pk else None
    if job is not None and job.order != Order.DRAFT:
        return redirect("job_detail", job.pk)
    given = (request.POST, request.FILES) if request.method == "POST" else (None, None)
    form = ListForm(request.GET.get("action", job.action if job else ""), *given)
    if request.method == "POST" and form.is_valid():
        action, text, user = form.cleaned_data["action"], form.cleaned_data["lines"], request.user
        try:
            if job is None:
                key = jobs.intent(request.POST.get("key", ""), action, text)
                made = lists.begin(user, action, text, name=form.name, key=key)  # type: ignore[arg-type]
            else:
                made = lists.apply(user, job, action, text, name=form.name)  # type: ignore[arg-type]
            return redirect("job_detail", made.pk)
        except ValidationError as error:
            form.add_error(form.source, error)
    context: dict[str, Any] = {"form": form, "job": job, "total": job.total if job else 0, "actions": Action.composable()}
    context |= {"limit_lines": list_files.MAX_LINES, "limit_size": list_files.MAX_BYTES // 1_000_000}
    context["key"] = request.POST.get("key") or secrets.token_hex(16)
    return render(request, "jobs/from_list.html", context, status=422 if form.errors else 200)
