"""Frozen values of the domain: policy, match, SLA, observation, allocation, decision."""
