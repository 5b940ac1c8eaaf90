"""What a text names."""

import pytest

from lineage.hub.claims.target import Target, resolve

SHA = "221e5f92f9dc5fedaf4556b1be6b20642638643c"


@pytest.mark.parametrize(
    ("text", "repo"),
    [
        ("org/name", "org/name"),
        ("  'org/name' ", "org/name"),
        ("`org/name`", "org/name"),
        ("org/name/", "org/name"),
        ("gpt2", "gpt2"),
        ("llama-7b", "llama-7b"),
        ("org/output", "org/output"),
        ("https://huggingface.co/org/name", "org/name"),
        ("https://huggingface.co/org/name/", "org/name"),
        ("http://www.huggingface.co/org/name?library=x#y", "org/name"),
        ("huggingface.co/org/name", "org/name"),
        ("hf.co/org/name", "org/name"),
        ("hf.co/org/name:Q4_K_M", "org/name"),
        ("https://hf-mirror.com/org/name", "org/name"),
        ("https://huggingface.co/api/models/org/name", "org/name"),
        ("https://huggingface.co/gpt2", "gpt2"),
        ("https://huggingface.co/gpt2/tree/main", "gpt2"),
        ("https://huggingface.co/org/name/blob/main/config.json", "org/name"),
        ("https://huggingface.co/org/name/discussions/3", "org/name"),
        ("org/name/tree/main", "org/name"),
        ("hf://org/name/file.safetensors", "org/name"),
        ("[the base](https://huggingface.co/org/name)", "org/name"),
    ],
)
def test_ids_and_urls_name_a_repository(text: str, repo: str) -> None:
    assert resolve(text) == Target(repo)


@pytest.mark.parametrize(
    "text",
    [
        f"org/name@{SHA}",
        f"https://huggingface.co/org/name/tree/{SHA}",
        f"https://huggingface.co/org/name/resolve/{SHA}/model.safetensors",
        f"https://huggingface.co/org/name/commit/{SHA.upper()}",
    ],
)
def test_a_full_commit_is_kept(text: str) -> None:
    assert resolve(text) == Target("org/name", SHA)


def test_other_revisions_are_noted() -> None:
    assert resolve("org/name@v1.2") == Target("org/name", note="revision v1.2")
    assert resolve("https://huggingface.co/org/name/tree/gptq-4bit").note == "revision gptq-4bit"
    assert resolve("org/name@main") == Target("org/name")


@pytest.mark.parametrize(
    ("text", "repo", "commit"),
    [
        (f"/root/.cache/huggingface/hub/models--org--name/snapshots/{SHA}", "org/name", SHA),
        (f"/root/.cache/huggingface/hub/models--org--name/snapshots/{SHA}/unet", "org/name", SHA),
        (rf"C:\hub\models--org--name\snapshots\{SHA}", "org/name", SHA),
        ("/cache/models--org--name", "org/name", None),
        ("/cache/models--org--name/snapshots/main", "org/name", None),
        (f"models--gpt2/snapshots/{SHA}/", "gpt2", SHA),
        ("/cache/models--a-b--c-d.e/blobs/x", "a-b/c-d.e", None),
    ],
)
def test_a_cache_path_names_repository_and_commit(text: str, repo: str, commit: str | None) -> None:
    assert resolve(text) == Target(repo, commit, note="cache path")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("None", "empty"),
        ("null", "empty"),
        ("N/A", "empty"),
        ("{{ base_model }}", "template"),
        ("{base_model}", "template"),
        ("${BASE}", "template"),
        ("<your base model>", "template"),
        ("[More Information Needed]", "template"),
        ("/data/llama", "local_path"),
        ("./out", "local_path"),
        ("../llama", "local_path"),
        (".", "local_path"),
        ("~/llama", "local_path"),
        ("$HOME/llama", "local_path"),
        (r".\x", "local_path"),
        (r"E:\merge\x", "local_path"),
        ("D:/merge/x", "local_path"),
        ("C:", "local_path"),
        ("file:///data/x", "local_path"),
        ("models/llama-7b", "local_path"),
        ("output", "local_path"),
        ("outputs/run1", "local_path"),
        ("checkpoint-500", "local_path"),
        ("checkpoint-500/adapter", "local_path"),
        ("tmp_3xk2", "local_path"),
        ("tmp/x", "local_path"),
        ("a/b/c", "local_path"),
        ("v1-5-pruned.safetensors", "local_path"),
        ("https://civitai.com/models/4384", "url"),
        ("https://github.com/org/name", "url"),
        ("https://modelscope.cn/models/org/name", "url"),
        ("s3://bucket/model", "url"),
        ("https://huggingface.co/datasets/org/name", "url"),
        ("https://huggingface.co/spaces/org/name", "url"),
        ("https://huggingface.co/", "url"),
        ("https://huggingface.co.evil.example/org/name", "url"),
        ("https://evil.example/huggingface.co/org/name", "url"),
        ("https://[broken/org/name", "url"),
        ("Llama 3 8B", "malformed"),
        ("org/na me", "malformed"),
        ("org/name -", "malformed"),
        ("org--x/name", "malformed"),
        ("org/name.git", "malformed"),
        ("org/name@", "malformed"),
        ("-org/name", "malformed"),
        ("ürg/name", "malformed"),
        ("x" * 97, "malformed"),
        ("org/checkpoint-500", "ambiguous"),
        ("org/model.gguf", "ambiguous"),
    ],
)
def test_what_names_no_repository_says_why(text: str, reason: str) -> None:
    assert resolve(text) == Target(reason=reason)


@pytest.mark.parametrize(
    "text",
    ["gpt2", "gpt2-xl", "bert-base-uncased", "distilroberta-base", "roberta-large-mnli",
     "t5-small", "xlm-roberta-base", "distilbert-base-uncased-finetuned-sst-2-english"],
)  # fmt: skip
def test_old_names_without_owner_are_known_even_in_doubt(text: str) -> None:
    assert resolve(text, doubt=True) == Target(text)


@pytest.mark.parametrize(
    "text", ["llama-7b", "my-bert", "bert-base-uncased-mine", "roberta-base-run3", "me/output"]
)
def test_in_doubt_a_bare_name_may_be_a_folder(text: str) -> None:
    assert resolve(text, doubt=True) == Target(reason="ambiguous")
    assert resolve(text).repo == text
