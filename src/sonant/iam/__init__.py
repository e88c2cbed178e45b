"""IAM-style JSON policies: parse once, decide many times. No I/O.

    parse(text) -> Policy                                   the policy of a user or role
    allows(policies, action, resource, context) -> bool     the decision, as AWS takes it
    decide(policies, action, resource, context) -> Decision the same, with the reason
    PolicyEvaluator(policies).allows(action, resource, context)  the same, for policies used many times
    parse_trust(text) -> TrustPolicy                        the trust policy of a role
    trusts(document, principal, context) -> bool

`context` holds what is known about the request (see `sonant.iam.context`): tags, the caller's address, the
time. Parsing refuses with a SetupError whatever it does not understand; evaluation raises only what a
function in the context raises.
"""

from sonant.iam.context import NOTHING, Context
from sonant.iam.documents import ALLOW_ALL, MAX_POLICY_CHARS, MAX_STATEMENTS, parse
from sonant.iam.evaluation import (
    Decision,
    Policy,
    PolicyEvaluator,
    Statement,
    Trace,
    allows,
    decide,
)
from sonant.iam.trust import TrustPolicy, parse_trust, trusts

__all__ = [
    "ALLOW_ALL",
    "MAX_POLICY_CHARS",
    "MAX_STATEMENTS",
    "NOTHING",
    "Context",
    "Decision",
    "Policy",
    "PolicyEvaluator",
    "Statement",
    "Trace",
    "TrustPolicy",
    "allows",
    "decide",
    "parse",
    "parse_trust",
    "trusts",
]
