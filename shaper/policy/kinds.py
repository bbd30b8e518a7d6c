"""Every kind of problem a policy can have: slugs that scripts and tests may rely on."""

from __future__ import annotations

import enum


class Kind(enum.StrEnum):
    """The `kind` of a Problem from this room, in the order in which a policy is looked at."""

    # the file
    UNREADABLE = "unreadable"
    NOT_UTF8 = "not-utf-8"
    TOO_LARGE = "too-large"
    INCLUDE_CYCLE = "include-cycle"
    # YAML
    YAML_SYNTAX = "yaml-syntax"
    YAML_FEATURE = "yaml-feature"
    DUPLICATE_KEY = "duplicate-key"
    # the words of the language
    UNKNOWN_KEY = "unknown-key"
    MISSING_KEY = "missing-key"
    WRONG_TYPE = "wrong-type"
    EMPTY = "empty"
    BAD_VERSION = "bad-version"
    BAD_NAME = "bad-name"
    RESERVED_NAME = "reserved-name"
    BAD_DEVICE = "bad-device"
    UNKNOWN_BACKEND = "unknown-backend"
    UNKNOWN_AQM = "unknown-aqm"
    UNKNOWN_FAIRNESS = "unknown-fairness"
    UNKNOWN_SERVICE_CLASS = "unknown-service-class"
    # vars and groups
    UNKNOWN_VAR = "unknown-var"
    BAD_VAR = "bad-var"
    UNKNOWN_GROUP = "unknown-group"
    GROUP_IN_GROUP = "group-in-group"
    # quantities
    MISSING_UNIT = "missing-unit"
    AMBIGUOUS_UNIT = "ambiguous-unit"
    BAD_QUANTITY = "bad-quantity"
    BAD_PERCENT = "bad-percent"
    BAD_PERCENTILE = "bad-percentile"
    # names and numbers of a match
    UNKNOWN_TIER = "unknown-tier"
    UNKNOWN_CLASSIFIER = "unknown-classifier"
    UNKNOWN_DSCP = "unknown-dscp"
    UNKNOWN_PROTOCOL = "unknown-protocol"
    BAD_ADDRESS = "bad-address"
    HOST_BITS = "host-bits"
    BAD_PORT = "bad-port"
    REVERSED_RANGE = "reversed-range"
    UNKNOWN_NAME = "unknown-name"
    BAD_MASK = "bad-mask"
    BAD_MAC = "bad-mac"
    OUT_OF_RANGE = "out-of-range"
    BAD_CGROUP = "bad-cgroup"
    # a list of addresses
    ADDRESS_FILE = "address-file"
    # one match
    PORTS_WITHOUT_TRANSPORT = "ports-without-transport"
    MIXED_FAMILIES = "mixed-families"
    NOT_INSIDE = "not-inside"
    NEVER_MATCHES = "never-matches"
    # a policy
    NO_DEFAULT = "no-default"
    SEVERAL_DEFAULTS = "several-defaults"
    DEFAULT_NOT_LEAF = "default-not-leaf"
    SLA_NOT_LEAF = "sla-not-leaf"
    UNREACHABLE_CLASS = "unreachable-class"
    DSCP_CLAIMED_TWICE = "dscp-claimed-twice"
    SHADOWED_MATCH = "shadowed-match"
    SPECIAL_WITHOUT_LIMIT = "special-without-limit"
    TOO_DEEP = "too-deep"
    # an interface
    UNKNOWN_POLICY = "unknown-policy"
    UNKNOWN_LINK = "unknown-link"
    BAD_LINK = "bad-link"
    DUPLICATE_DEVICE = "duplicate-device"
    # rates on an interface
    GUARANTEES_EXCEED_BANDWIDTH = "guarantees-exceed-bandwidth"
    GUARANTEES_EXCEED_PARENT = "guarantees-exceed-parent"
    PERCENT_OF_NOTHING = "percent-of-nothing"
    LIMIT_BELOW_GUARANTEE = "limit-below-guarantee"
    LIMIT_ABOVE_PARENT = "limit-above-parent"
    PRIORITY_AGAINST_TIER = "priority-against-tier"
    AQM_NOT_LEAF = "aqm-not-leaf"
    BAD_AQM = "bad-aqm"
    BAD_FAIRNESS = "bad-fairness"
    BAD_STRICT = "bad-strict"
    POLICE_NOT_LEAF = "police-not-leaf"
    BAD_POLICE = "bad-police"
    BAD_MARKING = "bad-marking"
    POLICE_BELOW_GUARANTEE = "police-below-guarantee"
    PRIORITY_NOT_LEAF = "priority-not-leaf"
    MOST_OUT_OF_BOUNDS = "most-out-of-bounds"
    PROFILE_INFEASIBLE = "profile-infeasible"
    FLOOR_ABOVE_GUARANTEE = "floor-above-guarantee"
    FLOORS_EXCEED_PARENT = "floors-exceed-parent"
    THROUGHPUT_ABOVE_LIMIT = "throughput-above-limit"
    # a policy on a backend that keeps less than the whole language
    BACKEND_LACKS = "backend-lacks"
    NOT_CAKES_TINS = "not-cakes-tins"
