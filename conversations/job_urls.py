"""Addresses of jobs, below jobs/."""

from django.urls import path

from . import approval_views, item_views, lane_views, list_views
from . import job_views as views

urlpatterns = [
    path("", views.job_list, name="job_list"),
    path("new/", views.job_create, name="job_create"),
    path("from-list/", list_views.job_from_list, name="job_from_list"),
    path("badge/", views.job_badge, name="job_badge"),
    path("lanes/", lane_views.lane_list, name="lane_list"),
    path("lanes/<uuid:pk>/pause/", lane_views.lane_pause, name="lane_pause"),
    path("lanes/<uuid:pk>/resume/", lane_views.lane_resume, name="lane_resume"),
    path("lanes/<uuid:pk>/pace/", lane_views.lane_pace, name="lane_pace"),
    path("incidents/", lane_views.incident_list, name="incident_list"),
    path("incidents/<int:pk>/", lane_views.incident_detail, name="incident_detail"),
    path("<int:pk>/", views.job_detail, name="job_detail"),
    path("<int:pk>/compose/", views.job_compose, name="job_compose"),
    path("<int:pk>/compose/example/", views.job_example, name="job_example"),
    path("<int:pk>/list/", list_views.job_from_list, name="job_upload"),
    path("<int:pk>/check/", views.job_check, name="job_check"),
    path("<int:pk>/tick/", views.job_tick, name="job_tick"),
    path("<int:pk>/start/", views.job_start, name="job_start"),
    path("<int:pk>/discard/", views.job_discard, name="job_discard"),
    path("<int:pk>/approve/", approval_views.job_approve, name="job_approve"),
    path("<int:pk>/refuse/", approval_views.job_refuse, name="job_refuse"),
    path("<int:pk>/withdraw/", approval_views.job_withdraw, name="job_withdraw"),
    path("<int:pk>/pause/", views.job_order, {"order": "pause"}, name="job_pause"),
    path("<int:pk>/resume/", views.job_order, {"order": "resume"}, name="job_resume"),
    path("<int:pk>/cancel/", views.job_order, {"order": "cancel"}, name="job_cancel"),
    path("<int:pk>/retry/", views.job_order, {"order": "retry"}, name="job_retry"),
    path("<int:pk>/first/", views.job_order, {"order": "first"}, name="job_first"),
    path("<int:pk>/normal/", views.job_order, {"order": "normal"}, name="job_normal"),
    path("<int:pk>/go-on/", views.job_go_on, name="job_go_on"),
    path("<int:pk>/again/", views.job_again, name="job_again"),
    path("<int:pk>/items/<int:item_pk>/", item_views.job_item, name="job_item"),
    path("<int:pk>/items/<int:item_pk>/retry/", item_views.job_item_order, {"order": "retry"}, name="job_item_retry"),
    path("<int:pk>/items/<int:item_pk>/keep/", item_views.job_item_order, {"order": "keep"}, name="job_item_keep"),
    path("<int:pk>/items/<int:item_pk>/overwrite/", item_views.job_item_order, {"order": "overwrite"}, name="job_item_overwrite"),
    path("<int:pk>/undo/", views.job_undo, name="job_undo"),
    path("<int:pk>/items/<int:item_pk>/decide/", views.job_decide, name="job_decide"),
    path("<int:pk>/report.<str:kind>", views.job_report, name="job_report"),
]
