"""What a declared parent's text names: a repository, or nothing, and why."""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from lineage.domain.ids import is_commit, is_repo_id

_HOSTS = {"huggingface.co", "www.huggingface.co", "hf.co", "www.hf.co", "hf-mirror.com"}
_NO_MODEL = {
    "api", "blog", "chat", "collections", "datasets", "docs", "join", "learn", "login", "models",
    "new", "organizations", "papers", "posts", "pricing", "settings", "spaces", "tasks",
}  # fmt: skip
_VIEWS = {"tree", "blob", "resolve", "raw", "commit", "commits", "discussions", "edit"}
_EMPTY = {"", "none", "null", "nil", "nan", "n/a", "na", "-", "~", "[]", "{}", "unknown", "tbd"}
_TEMPLATE = re.compile(r"\{\{|\{%|\$\{|%\(|\{\w*\}|<[^<>]*>|\[(?:more information|todo)", re.I)
_CACHE = re.compile(
    r"(?:^|[/\\])models--([A-Za-z0-9._-]+)(?:[/\\]snapshots[/\\]([0-9a-fA-F]+))?(?=[/\\]|$)"
)
_LINK = re.compile(r"\[[^\[\]]*\]\(\s*([^\s()]+)\s*\)")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_DRIVE = re.compile(r"[A-Za-z]:(?:[/\\]|$)")
_WEIGHTS = re.compile(
    r"\.(?:safetensors|gguf|ggml|bin|pt|pth|ckpt|onnx|msgpack|h5|json|ya?ml)$", re.I
)
# Names that scripts and people give to the folders they save into: no owner is called so.
_STEP = re.compile(r"(?:checkpoint|ckpt|epoch|step|iter|global_step)[-_]?\d+", re.I)
_FOLDER = re.compile(
    _STEP.pattern
    + r"|outputs?|out|results?|runs?|checkpoints?|ckpts?|models?|weights|merged?|final"
    r"|tmp[-_]?\w*|temp|temp[-_]\w+|data|workspace|content|mnt|root|home|saved?[-_]models?"
    r"|pretrained(?:[-_]models?)?|(?:my|local|hf|base|trained|merged|fine[-_]?tuned)[-_]models?",
    re.I,
)
# The Hub's models from before it had owners; all others have `owner/name`.
_CANONICAL = re.compile(
    r"albert-(?:base|large|xlarge|xxlarge)-v[12]|camembert-base|ctrl|distilgpt2|openai-gpt"
    r"|bert-(?:base|large)-(?:un)?cased(?:-whole-word-masking)?(?:-finetuned-(?:squad|mrpc))?"
    r"|bert-base-(?:chinese|multilingual-(?:un)?cased|german-cased|german-dbmdz-(?:un)?cased)"
    r"|distilbert-base-(?:un)?cased(?:-distilled-squad|-finetuned-sst-2-english)?"
    r"|distilbert-base-(?:german|multilingual)-cased|distilroberta-base|gpt2(?:-medium|-large|-xl)?"
    r"|roberta-(?:base|large)(?:-mnli|-openai-detector)?|t5-(?:small|base|large|3b|11b)"
    r"|transfo-xl-wt103|xlm-roberta-(?:base|large)|xlnet-(?:base|large)-cased"
    r"|xlm-(?:clm-ende-1024|clm-enfr-1024|mlm-en-2048|mlm-100-1280|mlm-17-1280)"
)


@dataclass(frozen=True, slots=True)
class Target:
    """A repository, with its commit where one is named, or the reason why there is none."""

    repo: str | None = None
    commit: str | None = None
    reason: str | None = None
    note: str | None = None


def resolve(text: str, *, doubt: bool = False) -> Target:
    """Return what `text` names, without asking anybody.

    `org/name` and a bare `name` name a repository, with `@revision` at most one revision of it; so
    do URLs of the Hub and its mirrors, Markdown links to them, and paths into a Hugging Face cache
    (`models--org--name/snapshots/<commit>`). `doubt` is for files that programs wrote from
    whatever path they were given: there a bare name counts only where it is one of the Hub's old
    models without owner (`gpt2`), else it is `ambiguous`. Whether a repository exists is not
    known here. Reasons as in `Claim`: `empty`, `template`, `url`, `local_path`, `ambiguous`,
    `malformed`.
    """
    text = text.strip().strip("'\"`").strip()
    text = text.rstrip("/") or text
    if text.lower() in _EMPTY:
        return Target(reason="empty")
    if _TEMPLATE.search(text):
        return Target(reason="template")
    cached = _CACHE.search(text)
    if cached:
        return _from_cache(cached)
    link = _LINK.fullmatch(text)
    found = _from_url(link[1] if link else text)
    if found is None and _is_path(text):
        return Target(reason="local_path")
    return found or _from_id(text, doubt)


def _from_cache(cached: re.Match[str]) -> Target:
    name, commit = cached[1].replace("--", "/"), (cached[2] or "").lower()
    if name.count("/") > 1 or not is_repo_id(name):
        return Target(reason="malformed")
    return Target(name, commit if is_commit(commit) else None, note="cache path")


def _from_url(text: str) -> Target | None:
    """Return what a URL names, None where `text` is none."""
    lowered = text.lower()
    if lowered.startswith("hf://"):
        rest = text[5:]
    elif lowered.startswith("file:"):
        return Target(reason="local_path")
    elif _SCHEME.match(text) or lowered.split("/", 1)[0] in _HOSTS:
        try:
            parts = urlsplit(text if _SCHEME.match(text) else f"https://{text}")
            host = (parts.hostname or "").lower()
        except ValueError:
            return Target(reason="url")
        if parts.scheme.lower() not in {"http", "https"} or host not in _HOSTS:
            return Target(reason="url")
        rest = parts.path
    else:
        return None
    return _from_url_path([p for p in unquote(rest).split("/") if p])


def _from_url_path(parts: list[str]) -> Target:
    if parts[:2] == ["api", "models"]:
        parts = parts[2:]
    if not parts or parts[0].lower() in _NO_MODEL:
        return Target(reason="url")
    view = next((i for i, part in enumerate(parts[:3]) if part in _VIEWS and i), None)
    named = parts[:view] if view else parts[:2]
    revision = (
        parts[view + 1] if view and parts[view] != "discussions" and view + 1 < len(parts) else ""
    )
    repo, _, at = "/".join(named).partition("@")
    repo = repo.split(":", 1)[0]  # hf.co/org/name:Q4_K_M names one file of a repo
    if not is_repo_id(repo):
        return Target(reason="url")
    return _at(repo, at or revision)


def _is_path(text: str) -> bool:
    """Tell whether `text` is a path of the machine it was written on."""
    parts = text.split("@", 1)[0].split("/")
    if text.startswith(("/", ".", "~", "$")) or "\\" in text or _DRIVE.match(text):
        return True
    if _WEIGHTS.search(text) and len(parts) != 2:
        return True
    if _FOLDER.fullmatch(parts[0]):
        return True
    return len(parts) > 2 and parts[2] not in _VIEWS


def _from_id(text: str, doubt: bool) -> Target:
    parts = text.split("/")
    if len(parts) > 2:  # org/name/tree/main, a URL without its host
        return _from_url_path(parts)
    repo, at, revision = text.partition("@")
    if not is_repo_id(repo) or (at and not revision):
        return Target(reason="malformed")
    if _WEIGHTS.search(repo) or (doubt and _doubtful(repo)) or _STEP.fullmatch(parts[-1]):
        return Target(reason="ambiguous")
    return _at(repo, revision)


def _doubtful(repo: str) -> bool:
    _, slash, name = repo.rpartition("/")
    return bool(_FOLDER.fullmatch(name)) if slash else not _CANONICAL.fullmatch(repo)


def _at(repo: str, revision: str) -> Target:
    """Return a repository at a revision; only a full commit identifies one."""
    if is_commit(revision.lower()):
        return Target(repo, revision.lower())
    return Target(repo, note=f"revision {revision}" if revision not in {"", "main"} else None)
