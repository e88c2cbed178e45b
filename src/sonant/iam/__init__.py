"""IAM-style JSON policies: parse once, decide many times. No I/O.

    parse(text) -> Policy                                   the policy of a user or role
    check_new(text)                                         the same before it is stored, and stricter
    former_names(text, own_operations) -> list[str]         what to rewrite in a policy of an earlier release
    facts_about(action, ...) -> Context                     what conditions on an action may read
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
from sonant.iam.documents import (
    ALLOW_ALL,
    MAX_POLICY_CHARS,
    MAX_STATEMENTS,
    check_new,
    former_names,
    parse,
)
from sonant.iam.evaluation import (
    Decision,
    Policy,
    PolicyEvaluator,
    Statement,
    Trace,
    allows,
    decide,
)
from sonant.iam.services import OWN, VOICE_ID, facts_about
from sonant.iam.trust import TrustPolicy, parse_trust, trusts

__all__ = [
    "ALLOW_ALL",
    "MAX_POLICY_CHARS",
    "MAX_STATEMENTS",
    "NOTHING",
    "OWN",
    "VOICE_ID",
    "Context",
    "Decision",
    "Policy",
    "PolicyEvaluator",
    "Statement",
    "Trace",
    "TrustPolicy",
    "allows",
    "check_new",
    "decide",
    "facts_about",
    "former_names",
    "parse",
    "parse_trust",
    "trusts",
]
