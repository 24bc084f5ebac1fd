"""How a person signs in: the second factors of the sign-in library, by the names that it looks up, the OpenID Connect login, and the sessions."""

from allauth.account import views as library
from allauth.mfa.base import views as base
from allauth.mfa.recovery_codes import views as recovery
from allauth.mfa.totp import views as totp
from allauth.mfa.webauthn import views as webauthn
from django.contrib.auth.decorators import login_not_required
from django.urls import path, reverse_lazy

from . import oidc_views as oidc
from . import security_views as views
from .recent import recently_authenticated

HOME = {"success_url": reverse_lazy("mfa_index")}

urlpatterns = [
    path("me/security/", views.security, name="mfa_index"),
    path("me/security/sessions/end/", views.sessions_end_others, name="sessions_end_others"),
    path("me/security/sessions/<int:pk>/end/", views.session_end, name="session_end"),
    path("me/security/app/on/", totp.activate_totp, name="mfa_activate_totp"),
    path("me/security/app/off/", totp.DeactivateTOTPView.as_view(), name="mfa_deactivate_totp"),
    path("me/security/passkeys/add/", webauthn.add_webauthn, name="mfa_add_webauthn"),
    path("me/security/passkeys/<int:pk>/rename/", webauthn.EditWebAuthnView.as_view(**HOME), name="mfa_edit_webauthn"),
    path("me/security/passkeys/<int:pk>/remove/", webauthn.RemoveWebAuthnView.as_view(**HOME), name="mfa_remove_webauthn"),
    path("me/security/codes/", recovery.view_recovery_codes, name="mfa_view_recovery_codes"),
    path("me/security/codes/new/", recovery.generate_recovery_codes, name="mfa_generate_recovery_codes"),
    path("me/security/codes/download/", recovery.download_recovery_codes, name="mfa_download_recovery_codes"),
    path("auth/code/", base.authenticate, name="mfa_authenticate"),
    path("auth/passkey/", login_not_required(webauthn.login_webauthn), name="mfa_login_webauthn"),
    path("auth/confirm/code/", base.reauthenticate, name="mfa_reauthenticate"),
    path("auth/confirm/passkey/", webauthn.reauthenticate_webauthn, name="mfa_reauthenticate_webauthn"),
    path("auth/password/new/", recently_authenticated(library.password_set), name="account_set_password"),
    path("auth/confirm/oidc/", oidc.oidc_confirm, name="oidc_confirm"),
    path("auth/oidc/", oidc.oidc_login, name="oidc_login"),
    path("auth/oidc/callback/", oidc.oidc_callback, name="oidc_callback"),
    path("me/security/oidc/connect/", oidc.oidc_connect, name="oidc_connect"),
    path("me/security/oidc/<int:pk>/disconnect/", oidc.oidc_disconnect, name="oidc_disconnect"),
]
