"""Races of methods on data sets: those under the operator's folder, live, and those started here."""
