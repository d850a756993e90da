"""Tests, in folders that mirror the package.

A regular package on purpose: some distribution installs a top-level `tests` of its own, and a
namespace package would lose to it.
"""
