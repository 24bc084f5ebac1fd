from django.urls import path

from . import definition_views, page_views, paste_views, sharing_views, views

urlpatterns = [
    path("", views.account_list, name="account_list"),
    path("around/", views.account_around, name="account_around"),
    path("export/", definition_views.account_export, name="account_export"),
    path("import/", definition_views.account_import, name="account_import"),
    path("new/", views.account_add, name="account_add"),
    path("new/paste/", paste_views.account_paste, name="account_paste"),
    path("new/<slug:provider_key>/", views.account_add_provider, name="account_add_provider"),
    path("new/<slug:provider_key>/test/", views.account_test_new, name="account_test_new"),
    path("<uuid:pk>/", views.account_detail, name="account_detail"),
    path("<uuid:pk>/edit/", views.account_edit, name="account_edit"),
    path("<uuid:pk>/edit/test/", views.account_test_edit, name="account_test_edit"),
    path("<uuid:pk>/paste/", paste_views.account_paste_into, name="account_paste_into"),
    path("<uuid:pk>/test/", views.account_test, name="account_test"),
    path("<uuid:pk>/pause/", views.account_pause, name="account_pause"),
    path("<uuid:pk>/resume/", views.account_resume, name="account_resume"),
    path("<uuid:pk>/pace/", views.account_pace, name="account_pace"),
    path("<uuid:pk>/requests/", page_views.account_requests, name="account_requests"),
    path("<uuid:pk>/labels/", page_views.account_labels, name="account_labels"),
    path("<uuid:pk>/about/", page_views.account_about, name="account_about"),
    path("<uuid:pk>/delete/", views.account_delete, name="account_delete"),
    path("<uuid:pk>/share/", sharing_views.account_share, name="account_share"),
    path("<uuid:pk>/share/<int:team_pk>/remove/", sharing_views.account_unshare, name="account_unshare"),
    path("<uuid:pk>/hand-over/", sharing_views.account_hand_over, name="account_hand_over"),
]
