"""Addresses of teams and of invitations."""

from django.urls import path

from . import team_views as views

urlpatterns = [
    path("teams/", views.team_list, name="team_list"),
    path("teams/<int:pk>/", views.team_detail, name="team_detail"),
    path("teams/<int:pk>/invite/", views.team_invite, name="team_invite"),
    path("teams/<int:pk>/invitations/<int:invitation_pk>/revoke/", views.team_revoke, name="team_revoke"),
    path("teams/<int:pk>/rename/", views.team_rename, name="team_rename"),
    path("teams/<int:pk>/limits/", views.team_limits, name="team_limits"),
    path("teams/<int:pk>/delete/", views.team_delete, name="team_delete"),
    path("teams/<int:pk>/members/<int:user_pk>/role/", views.team_role, name="team_role"),
    path("teams/<int:pk>/members/<int:user_pk>/remove/", views.team_remove, name="team_remove"),
    path("invitations/<str:secret>/", views.invitation, name="invitation"),
]
