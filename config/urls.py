"""All URLs: the two apps, signing in, the language and the operators' admin site."""

from allauth.account import views as auth_views
from allauth.account.decorators import secure_admin_login
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount, SocialApp, SocialToken
from allauth.usersessions.models import UserSession
from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.urls import include, path

# The admin site's own sign-in form counts no failed attempts; the one sign-in page of the product does.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]
# Sealed seeds, keys of sessions and connected logins are no business of the admin site; a provider is named by the environment alone.
admin.site.unregister([Authenticator, UserSession, SocialAccount, SocialApp, SocialToken])
handler500 = "config.errors.failed"

urlpatterns = [
    # From allauth only what this installation offers: no sign-up by oneself, nothing that needs outgoing mail.
    path("auth/login/", auth_views.login, name="account_login"),
    path("auth/logout/", auth_views.logout, name="account_logout"),
    path("auth/inactive/", login_not_required(auth_views.account_inactive), name="account_inactive"),
    path("auth/signup/", auth_views.signup, name="account_signup"),
    path("auth/password/", auth_views.password_change, name="account_change_password"),
    path("auth/confirm/", auth_views.reauthenticate, name="account_reauthenticate"),
    path("", include("accounts.security_urls")),
    path("admin/", admin.site.urls),
    path("accounts/", include("accounts.urls")),
    path("", include("accounts.person_urls")),
    path("", include("accounts.team_urls")),
    path("", include("conversations.urls")),
]
