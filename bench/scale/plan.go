package main

type plan struct{}

func newPlan(*measurement, string) (*plan, error) { return &plan{}, nil }
