"""Addresses of jobs, below jobs/."""

from django.urls import path

from . import job_views as views

urlpatterns = [
    path("", views.job_list, name="job_list"),
    path("new/", views.job_create, name="job_create"),
    path("badge/", views.job_badge, name="job_badge"),
    path("<int:pk>/", views.job_detail, name="job_detail"),
    path("<int:pk>/compose/", views.job_compose, name="job_compose"),
    path("<int:pk>/compose/example/", views.job_example, name="job_example"),
    path("<int:pk>/check/", views.job_check, name="job_check"),
    path("<int:pk>/start/", views.job_start, name="job_start"),
    path("<int:pk>/discard/", views.job_discard, name="job_discard"),
    path("<int:pk>/pause/", views.job_order, {"order": "pause"}, name="job_pause"),
    path("<int:pk>/resume/", views.job_order, {"order": "resume"}, name="job_resume"),
    path("<int:pk>/cancel/", views.job_order, {"order": "cancel"}, name="job_cancel"),
    path("<int:pk>/retry/", views.job_order, {"order": "retry"}, name="job_retry"),
    path("<int:pk>/undo/", views.job_undo, name="job_undo"),
    path("<int:pk>/items/<int:item_pk>/decide/", views.job_decide, name="job_decide"),
    path("<int:pk>/report.<str:kind>", views.job_report, name="job_report"),
]
