"""Settings of the flower shop: PostgreSQL with softlock, and no other service.

Where the database is, psycopg reads from PGHOST, PGPORT and PGUSER.
"""

import os
from datetime import timedelta
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent

# The key of an example; a real shop keeps its own out of the sources.
SECRET_KEY = os.environ.get("TILL_SECRET_KEY", "only-for-looking-at-the-example")
DEBUG = os.environ.get("TILL_DEBUG") == "1"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "testserver"]

# How long a kit stays in a cart, and how often an open page prolongs that: until softlock.max_hold, or the
# kind's in softlock.policies.
TILL_HOLD = timedelta(seconds=float(os.environ.get("TILL_HOLD_SECONDS", "1800")))
TILL_HEARTBEAT = timedelta(seconds=60)

# How many pages may follow by events, in each process: each takes a thread of the application server, so
# it has to have more. Beyond it pages ask every second.
TILL_STREAMS = int(os.environ.get("TILL_STREAMS", "20"))
# Where LISTEN reaches the server itself, if PGPORT is a pooler's.
TILL_LISTEN_PORT = os.environ.get("TILL_LISTEN_PORT", "")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.postgres",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "inventory",
    "legacy",
    "till",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "till.middleware.TryAgain",
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ.get("TILL_DATABASE", "shop"),
        "ATOMIC_REQUESTS": os.environ.get("TILL_ATOMIC_REQUESTS") == "1",
        "CONN_MAX_AGE": int(os.environ.get("TILL_CONN_MAX_AGE", "0")),
        "CONN_HEALTH_CHECKS": True,
        # PgBouncer in transaction mode has no use for cursors that outlive a transaction.
        "DISABLE_SERVER_SIDE_CURSORS": True,
        "OPTIONS": {"server_side_binding": os.environ.get("TILL_SERVER_SIDE_BINDING") == "1"},
        "TEST": {"NAME": os.environ.get("TILL_TEST_DATABASE", "test_shop")},
    }
}

DATABASE_ROUTERS = ["till.softlock.NotInFixtures"]

ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "terminal"

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("ru", "Русский")]
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
