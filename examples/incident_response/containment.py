"""What to do about findings, by rule, in an analyst's order (NIST SP 800-61, CISA's playbooks).

Each step names what it rests on. Nothing is done here.
"""

from __future__ import annotations

from examples.incident_response.findings import Findings
from examples.incident_response.logs import Bundle


def steps(found: Findings, bundle: Bundle) -> list[str]:
    """What to do, in order.

    Args:
        found: What was found.
        bundle: What the company knows of its hosts.
    """
    if not found.hosts:
        return [
            "Close the alert as unconfirmed: no host shows a strong sign of a compromise. Keep the logs, and "
            "look again if the alert comes back."
        ]
    told = [*_isolate(found, bundle), *_accounts(found), *_indicators(found)]
    return [*told, *_evidence(found), *_further(found)]


def _isolate(found: Findings, bundle: Bundle) -> list[str]:
    steps = []
    for host in found.hosts:
        role = bundle.roles.get(host, "host")
        how = (
            "Isolate"
            if role == "workstation"
            else "Restrict to the administrators' network (do not power off)"
        )
        steps.append(f"{how} {host}, a {role}: {_why(found, host)}.")
    return steps


def _why(found: Findings, host: str) -> str:
    reached = [step for step in found.path if step.target == host]
    if reached:
        return f"reached from {reached[0].source} as {reached[0].account} [{reached[0].lines[0]}]"
    signs = [sign for sign in found.signs if sign.host == host]
    return f"{signs[0].summary} [{signs[0].lines[0]}]" if signs else "on the path"


def _accounts(found: Findings) -> list[str]:
    steps = [
        f"Disable {account}, end its sessions and tickets, and give it a new password before further use."
        for account in found.accounts
    ]
    if any(sign.technique == "T1003.003" for sign in found.signs):
        steps.append("Reset krbtgt twice and every privileged account: the directory's database was copied.")
    elif any(account.startswith("da.") for account in found.accounts):
        steps.append("Look for new tickets and accounts in the domain: a domain administrator was used.")
    if any(step.by_hash for step in found.path):
        steps.append(
            "Give every account that logged on to the hosts above a new password: hashes were stolen."
        )
    return steps


def _indicators(found: Findings) -> list[str]:
    if not found.indicators:
        return []
    listed = ", ".join(found.indicators)
    return [f"Block {listed} at proxy, firewall and endpoints, and search for them everywhere."]


def _evidence(found: Findings) -> list[str]:
    return [f"Before any restart, take memory and logs of {', '.join(found.hosts)}."]


def _further(found: Findings) -> list[str]:
    steps = []
    if found.failed:
        steps.append(f"Look at where {len(found.failed)} failed logons went [{found.failed[0]}].")
    if not found.lateral_movement:
        steps.append("Watch for logons from there to other hosts: none succeeded so far.")
    if any(sign.technique == "T1560.001" for sign in found.signs):
        steps.append("Find out what was packed and whether it left: files were put under a password.")
    if found.addressed:
        steps.append(
            f"Do not let a model act on these lines, which give it orders: {', '.join(found.addressed)}."
        )
    return steps
