"""IAM-style JSON policies: parse once, decide many times. Pure.

    parse(text) -> Policy                                   what a user or role may do
    allows(policies, action, resource, context) -> bool     the decision, as AWS takes it
    decide(policies, action, resource, context) -> Decision the same, and which statement decided, and why
    PolicyEvaluator(policies).allows(action, resource, context)  the same, for policies used many times
    parse_trust(text) -> TrustPolicy                        who may act as a role
    trusts(document, principal, context) -> bool

`context` says what is known about the request (see `context`): tags, the caller's address, the time. A
policy that is not understood is refused when it is read, with a SetupError; judging a request raises nothing
but what a function in the context raises.
"""

from sonant.iam.context import NOTHING, Context
from sonant.iam.decisions import Decision, PolicyEvaluator, Trace, allows, decide
from sonant.iam.documents import ALLOW_ALL, MAX_POLICY_CHARS, MAX_STATEMENTS, parse
from sonant.iam.statements import Policy, Statement
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
