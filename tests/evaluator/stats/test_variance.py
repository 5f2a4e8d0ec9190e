"""An error in parts that are known unequally well, against scipy's tests and by integration over what is estimated."""

import math

import numpy as np
import pytest
from scipy import stats

from evaluator.stats.variance import Part, half_width, p_of, pooled


def test_of_one_part_it_is_the_t_test_and_of_known_parts_the_normal_one():
    values = np.random.default_rng(1).normal(0.4, 1, 12)
    part = Part(values.var(ddof=1) / 12, 11)
    assert p_of(values.mean(), [part]) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, rel=1e-6)
    known = [Part(0.3), Part(0.5), Part(0.0, 1)]
    assert p_of(1.7, known) == pytest.approx(2 * stats.norm.sf(1.7 / math.sqrt(0.8)), rel=1e-9)
    assert p_of(0.0, [part]) == p_of(0.0, []) == 1.0 and p_of(0.1, []) == 0.0


@pytest.mark.parametrize("freedom", [1, 2, 5, 30])
def test_its_interval_misses_no_oftener_than_its_level_whatever_the_shares_of_the_parts_are(freedom):
    """The share of misses, integrated over the variance that is estimated; Satterthwaite's would miss up to 9 %."""
    chances = (np.arange(20_000) + 0.5) / 20_000
    estimates = stats.chi2.ppf(chances, freedom) / freedom
    for level, share in ((level, share) for level in (0.05, 0.005) for share in (0.01, 0.1, 0.3, 0.5, 0.8, 1.0)):
        squared = half_width([Part(1 - share)], level) ** 2 + half_width([Part(share, freedom)], level) ** 2 * estimates
        misses = 2 * stats.norm.sf(np.sqrt(squared)).mean()
        assert misses <= level * 1.01
    assert misses == pytest.approx(level, rel=0.03)  # all of it estimated: a t-test


def test_a_value_at_the_end_of_the_interval_has_the_level_as_its_p_value():
    parts = [Part(0.2, 3), Part(0.4), Part(0.1, 40)]
    for level in (0.2, 0.05, 1e-4):
        assert p_of(half_width(parts, level), parts) == pytest.approx(level, rel=1e-6)


def test_the_scatter_within_groups_is_an_analysis_of_variances_own():
    groups = [np.random.default_rng(seed).normal(seed, 2, size) for seed, size in ((1, 4), (2, 2), (3, 1), (4, 5))]
    part = pooled(groups)
    assert part.freedom == 8
    # F is the mean square between groups over that within them.
    everything = np.concatenate(groups)
    between = sum(len(group) * (group.mean() - everything.mean()) ** 2 for group in groups) / 3
    assert between / part.variance == pytest.approx(stats.f_oneway(*groups).statistic)
    with pytest.raises(ValueError, match="no group has two values"):
        pooled([[1.0], [2.0]])
