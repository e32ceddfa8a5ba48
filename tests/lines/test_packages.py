from importlib.metadata import packages_distributions

import sklearn

from factory_assets.lines.packages import estimator_packages, find_distributions


def test_an_estimator_belongs_to_the_package_that_it_is_imported_from() -> None:
    assert estimator_packages("sklearn.linear_model.Ridge") == (f"scikit-learn=={sklearn.__version__}",)


def test_a_loose_module_belongs_to_none() -> None:
    assert estimator_packages("no_such_package.Model") == ()


def test_every_module_has_the_packages_that_the_standard_library_finds() -> None:
    """Packages, single modules and extensions, with and without a `top_level.txt`."""
    modules = {name: sorted(set(found)) for name, found in packages_distributions().items() if name.isidentifier()}
    assert {name: list(find_distributions(f"{name}.Model")) for name in modules} == modules
