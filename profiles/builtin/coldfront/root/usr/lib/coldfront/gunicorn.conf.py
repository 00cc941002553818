# How gunicorn runs. ColdFront's own reader of coldfront.env and of the environment has the number of workers, each of
# some 65 MB.
from coldfront.config.env import ENV

workers = ENV.int("GUNICORN_WORKERS", default=2)
