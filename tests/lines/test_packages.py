import sklearn

from factory_assets.lines.packages import estimator_packages


def test_an_estimator_belongs_to_the_package_that_it_is_imported_from() -> None:
    assert estimator_packages("sklearn.linear_model.Ridge") == (f"scikit-learn=={sklearn.__version__}",)


def test_a_loose_module_belongs_to_none() -> None:
    assert estimator_packages("no_such_package.Model") == ()
