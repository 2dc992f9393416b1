"""GitHub webhooks as events: what code can vouch for becomes facts, what somebody wrote becomes text (design §2).

A fact is a number, a flag, a SHA, an enum or a plain name; the tables below say where each is found. Events that a
machine reports (checks, workflow runs, statuses) carry no prose at all, so that they keep the tier `local`; names of
checks and workflows are brought into the form of a plain name. Where a person wrote something, its author's standing
decides the tier, and logins and labels are text too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import TypeAlias

from kairosd.core.events import Draft, Tier, is_fact_name
from kairosd.core.json import Json
from kairosd.core.workspaces import Workspace

Payload: TypeAlias = Mapping[str, object]

TEXT_MAX = 20_000  # characters of one text, the note of what was cut included
COMMITS_READ = 100  # of a push; GitHub sends up to 2,048
INTEGER_MAX = 2**63 - 1  # what a database column holds
WRITERS = frozenset({"OWNER", "MEMBER", "COLLABORATOR"})  # values of GitHub's `author_association`
WRITERS_ONLY = frozenset({"push", "create", "delete", "release", "workflow_dispatch"})  # events only a writer can cause

# `name=path` for each fact; a bare path is its own name; `name~path` brings a name of a check into plain form.
COMMON = "action repo=repository.full_name sender_type=sender.type number"
PULL = """
    number=pull_request.number state=pull_request.state merged=pull_request.merged draft=pull_request.draft
    head_sha=pull_request.head.sha head=pull_request.head.ref head_repo=pull_request.head.repo.full_name
    base=pull_request.base.ref base_sha=pull_request.base.sha merge_sha=pull_request.merge_commit_sha
    commits=pull_request.commits files=pull_request.changed_files additions=pull_request.additions
    deletions=pull_request.deletions association=pull_request.author_association"""
ISSUE = """
    number=issue.number state=issue.state reason=issue.state_reason comments=issue.comments locked=issue.locked
    association=issue.author_association"""
REVIEW = "review=review.id verdict=review.state commit=review.commit_id association=review.author_association"
COMMENT = """
    comment=comment.id commit=comment.commit_id path=comment.path line=comment.line
    association=comment.author_association"""
ALERT = "number=alert.number state=alert.state severity=alert.rule.severity reason=alert.dismissed_reason"
FACTS: Mapping[str, str] = {
    "push": "branch=ref before after created deleted forced base=base_ref",
    "create": "ref ref_type",
    "delete": "ref ref_type",
    "pull_request": PULL,
    "pull_request_review": f"{PULL} {REVIEW}",
    "pull_request_review_comment": f"{PULL} {COMMENT}",
    "pull_request_review_thread": PULL,
    "issues": ISSUE,
    "issue_comment": f"{ISSUE} {COMMENT}",
    "commit_comment": COMMENT,
    "discussion": "number=discussion.number state=discussion.state",
    "discussion_comment": "number=discussion.number comment=comment.id",
    "release": "release=release.id tag=release.tag_name draft=release.draft prerelease=release.prerelease",
    "workflow_dispatch": "ref workflow",
    "workflow_run": """
        run=workflow_run.id run_number=workflow_run.run_number attempt=workflow_run.run_attempt
        workflow=workflow_run.workflow_id name~workflow_run.name file=workflow_run.path cause=workflow_run.event
        status=workflow_run.status conclusion=workflow_run.conclusion sha=workflow_run.head_sha
        branch=workflow_run.head_branch head_repo=workflow_run.head_repository.full_name""",
    "workflow_job": """
        job=workflow_job.id run=workflow_job.run_id attempt=workflow_job.run_attempt name~workflow_job.name
        status=workflow_job.status conclusion=workflow_job.conclusion sha=workflow_job.head_sha
        branch=workflow_job.head_branch""",
    "check_run": """
        check=check_run.id name~check_run.name status=check_run.status conclusion=check_run.conclusion
        sha=check_run.head_sha branch=check_run.check_suite.head_branch""",
    "check_suite": """
        suite=check_suite.id status=check_suite.status conclusion=check_suite.conclusion sha=check_suite.head_sha
        branch=check_suite.head_branch before=check_suite.before after=check_suite.after""",
    "status": "sha state name~context",
    "deployment": "deployment=deployment.id sha=deployment.sha ref=deployment.ref environment~deployment.environment",
    "deployment_status": """
        deployment=deployment.id sha=deployment.sha ref=deployment.ref state=deployment_status.state
        environment~deployment.environment""",
    "merge_group": "head_sha=merge_group.head_sha base_sha=merge_group.base_sha base=merge_group.base_ref",
    "dependabot_alert": f"{ALERT} severity=alert.security_advisory.severity package~alert.dependency.package.name",
    "code_scanning_alert": f"{ALERT} ref commit=commit_oid",
    "secret_scanning_alert": ALERT,
    "milestone": "milestone=milestone.number state=milestone.state",
    "ping": "hook=hook_id",
}

# `name=path` for each text. The login comes along wherever somebody wrote something.
TITLED = "{0}_title={0}.title {0}_body={0}.body author={0}.user.login"
TEXTS: Mapping[str, str] = {
    "pull_request": f"{TITLED.format('pull_request')} label=label.name reviewer=requested_reviewer.login",
    "pull_request_review": "review_body=review.body author=review.user.login",
    "pull_request_review_comment": "comment_body=comment.body author=comment.user.login",
    "issues": f"{TITLED.format('issue')} label=label.name assignee=assignee.login milestone=milestone.title",
    "issue_comment": "comment_body=comment.body author=comment.user.login",
    "commit_comment": "comment_body=comment.body author=comment.user.login",
    "discussion": TITLED.format("discussion"),
    "discussion_comment": "comment_body=comment.body author=comment.user.login",
    "release": "release_name=release.name release_body=release.body author=release.author.login",
    "fork": "forkee=forkee.full_name",
    "milestone": "milestone_title=milestone.title description=milestone.description",
    "label": "label=label.name description=label.description",
}
AUTHORED = ("comment", "review", "pull_request", "issue", "discussion")  # the first one present wrote the event's text

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._/-]+")


def drafter(workspaces: Sequence[Workspace]) -> Callable[[str, str, Payload, str], Draft]:
    """What the webhook server calls for each delivery: `draft` for these workspaces."""
    return lambda event, delivery, payload, body: draft(
        event, payload, delivery=delivery, body=body, workspaces=workspaces
    )


def draft(
    event: str,
    payload: Payload,
    *,
    delivery: str = "",
    body: str | None = None,
    workspaces: Sequence[Workspace] = (),
) -> Draft:
    """The event of one delivery whose signature held.

    `event` and `delivery` are GitHub's headers, `body` the SHA-256 (hex) of the raw bytes. It belongs to the first of
    `workspaces` whose `repo` is the payload's repository. Takes any JSON object without raising.
    """
    found, odd = facts(event, payload)
    text = {**texts(event, payload), **odd}
    return Draft(
        source="webhook",
        kind=event,
        key=delivery,
        tier=tier(event, payload, has_text=bool(text)),
        workspace=_workspace(payload, workspaces),
        facts=found,
        text=text,
        delivery=delivery,
        body=body,
    )


def facts(event: str, payload: Payload) -> tuple[dict[str, Json], dict[str, str]]:
    """The facts of a payload; and, apart from them, the names among them that are not plain enough to be facts."""
    found: dict[str, Json] = {}
    odd: dict[str, str] = {}
    for name, keys, is_check in (*_entries(COMMON), *_entries(FACTS.get(event, ""))):
        value: object = payload
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, str) and value:
            plain = _NOT_PLAIN.sub("-", value)[:100] if is_check else _short_ref(name, value)
            if is_fact_name(plain):
                found[name] = plain
            else:
                odd[name] = _cut(plain)
        elif isinstance(value, bool) or (isinstance(value, int) and abs(value) <= INTEGER_MAX):
            found[name] = value
    if event == "push":
        found.update(_push_counts(payload))
    if _is_fork(payload):
        found["fork"] = True
    return found, odd


def texts(event: str, payload: Payload) -> dict[str, str]:
    """What people wrote, each at most `TEXT_MAX` characters; empty for what a machine reports."""
    found: dict[str, str] = {}
    for name, keys, _ in _entries(TEXTS.get(event, "")):
        value = _reach(payload, keys)
        if isinstance(value, str) and value:
            found[name] = _cut(value)
    if event == "push" and (messages := "\n\n".join(_messages(payload))):
        found["messages"] = _cut(messages)
    subject = _at(payload, {"issues": "issue", "pull_request": "pull_request"}.get(event, ""))
    if labels := "\n".join(_names(_at(subject, "labels"))):
        found["labels"] = _cut(labels)
    sender = _at(payload, "sender.login")
    if found and isinstance(sender, str) and sender:
        found["sender"] = _cut(sender)
    return found


def tier(event: str, payload: Payload, *, has_text: bool) -> Tier:
    """The trust of an event: `local` for facts alone, else its author's; whatever comes from a fork is `public`."""
    if not has_text:
        return Tier.LOCAL
    if _is_fork(payload):
        return Tier.PUBLIC
    if event in WRITERS_ONLY:
        return Tier.COLLABORATOR
    for subject in AUTHORED:
        if isinstance(payload.get(subject), dict):
            author = _at(payload, f"{subject}.author_association")
            return Tier.COLLABORATOR if isinstance(author, str) and author in WRITERS else Tier.PUBLIC
    return Tier.PUBLIC


def _workspace(payload: Payload, workspaces: Sequence[Workspace]) -> str | None:
    repo = _at(payload, "repository.full_name")
    if not isinstance(repo, str):
        return None
    wanted = repo.casefold()
    return next((found.name for found in workspaces if found.repo and found.repo.casefold() == wanted), None)


@cache
def _entries(table: str) -> tuple[tuple[str, tuple[str, ...], bool], ...]:
    split = [(entry, *entry.replace("~", "=").partition("=")[::2]) for entry in table.split()]
    return tuple((name, _keys(path or name), "~" in entry) for entry, name, path in split)


def _at(value: object, path: str) -> object:
    """What lies at a dotted path; None wherever the payload is not shaped like that."""
    return _reach(value, _keys(path))


def _reach(value: object, keys: tuple[str, ...]) -> object:
    for key in keys:
        if not isinstance(value, dict):  # all that JSON makes; `Mapping` would take twice as long to ask for
            return None
        value = value.get(key)
    return value


@cache
def _keys(path: str) -> tuple[str, ...]:
    return tuple(path.split("."))


def _short_ref(name: str, value: str) -> str:
    return value.removeprefix("refs/heads/") if name in ("branch", "base") else value


def _is_fork(payload: Payload) -> bool:
    """Whether a pull request comes from another repository, or from one that is gone by now."""
    pull = payload.get("pull_request")
    if not isinstance(pull, dict) or "head" not in pull:
        return False
    head, base = _at(pull, "head.repo.full_name"), _at(pull, "base.repo.full_name")
    return head is None or head != base


def _push_counts(payload: Payload) -> dict[str, Json]:
    commits = payload.get("commits")
    counts: dict[str, Json] = {"commits": len(commits) if isinstance(commits, list) else 0}
    read = _commits(payload)
    for kind in ("added", "removed", "modified"):
        lists = [commit.get(kind) for commit in read]
        counts[kind] = len(
            {path for paths in lists if isinstance(paths, list) for path in paths if isinstance(path, str)}
        )
    return counts


def _commits(payload: Payload) -> list[dict[str, object]]:
    """The commits of a push that are read."""
    commits = payload.get("commits")
    return [each for each in commits[:COMMITS_READ] if isinstance(each, dict)] if isinstance(commits, list) else []


def _messages(payload: Payload) -> Iterator[str]:
    for commit in _commits(payload):
        message = commit.get("message")
        if isinstance(message, str) and message:
            sha = commit.get("id")
            yield f"{sha[:10]} {message}" if isinstance(sha, str) else message


def _names(items: object) -> Iterator[str]:
    for item in items if isinstance(items, list) else []:
        name = _at(item, "name")
        if isinstance(name, str) and name:
            yield name


def _cut(text: str) -> str:
    """Storable text of bounded length: JSON allows lone surrogates and NUL, a database row does not."""
    if len(text) <= TEXT_MAX and text.isascii() and "\x00" not in text:
        return text
    clean = text[: TEXT_MAX + 1].encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
    if len(text) <= TEXT_MAX:
        return clean
    note = f"\n[cut: the whole is {len(text)} characters long]"
    return clean[: TEXT_MAX - len(note)] + note
