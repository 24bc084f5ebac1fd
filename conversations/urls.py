from django.urls import include, path

from . import account_views, audit_views, sync_views, views

urlpatterns = [
    path("", views.home, name="home"),
    path("conversations/", views.conversation_list, name="conversation_list"),
    path("conversations/pane/", views.conversation_pane, name="conversation_pane"),
    path("conversations/freshness/", views.conversation_freshness, name="conversation_freshness"),
    path("conversations/models/", views.conversation_models, name="conversation_models"),
    path("conversations/<int:pk>/", views.conversation_detail, name="conversation_detail"),
    path("conversations/<int:pk>/messages/", views.conversation_messages, name="conversation_messages"),
    path("conversations/<int:pk>/shown/", views.conversation_shown, name="conversation_shown"),
    path("conversations/<int:pk>/refresh/", views.conversation_refresh, name="conversation_refresh"),
    path("conversations/<int:pk>/model/", views.conversation_model, name="conversation_model"),
    path("conversations/<int:pk>/title/", views.conversation_title, name="conversation_title"),
    path("conversations/<int:pk>/title/generate/", views.conversation_generate_title, name="conversation_generate_title"),
    path("conversations/<int:pk>/settings/", views.conversation_settings, name="conversation_settings"),
    path("conversations/<int:pk>/undo/<int:entry_pk>/", views.conversation_undo, name="conversation_undo"),
    path("conversations/accounts/<uuid:pk>/sync/", sync_views.account_sync, name="account_sync"),
    path("conversations/accounts/<uuid:pk>/sync/cancel/", sync_views.account_sync_cancel, name="account_sync_cancel"),
    path("conversations/accounts/<uuid:pk>/sync/progress/", sync_views.account_sync_progress, name="account_sync_progress"),
    path("conversations/accounts/<uuid:pk>/writes/", sync_views.account_writes, name="account_writes"),
    path("conversations/accounts/<uuid:pk>/history/", account_views.account_history, name="account_history"),
    path("audit/", audit_views.audit_list, name="audit_list"),
    path("audit/export.<str:kind>", audit_views.audit_export, name="audit_export"),
    path("jobs/", include("conversations.job_urls")),
]
