"""What holds for every test."""

from hypothesis import HealthCheck, settings

# A busy machine fails no test, and what lands is judged by the same examples each time. New ones are for the looking:
# pytest --hypothesis-profile search
settings.register_profile("landing", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("search", parent=settings.get_profile("landing"), derandomize=False, max_examples=1000)
settings.load_profile("landing")
