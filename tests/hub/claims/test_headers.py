"""Claims inside weight files."""

from lineage.hub.claims import from_metadata

REPO = "me/child"


def test_gguf_base_models() -> None:
    metadata = {
        "general.architecture": "llama",
        "general.base_model.count": "2",
        "general.base_model.0.name": "Llama 3 8B",
        "general.base_model.0.organization": "Meta Llama",
        "general.base_model.0.repo_url": "https://huggingface.co/meta-llama/Meta-Llama-3-8B",
        "general.base_model.1.name": "Some Tune",
        "general.base_model.1.organization": "Some One",
        "general.base_model.1.version": "v2",
    }
    found = from_metadata(REPO, "gguf", "m.gguf", metadata)
    assert [(c.source.value, c.file, c.repo, c.reason, c.relation, c.raw) for c in found] == [
        ("gguf", "m.gguf", "meta-llama/Meta-Llama-3-8B", None, "merge",
         "https://huggingface.co/meta-llama/Meta-Llama-3-8B"),
        ("gguf", "m.gguf", None, "ambiguous", "merge", "Some One Some Tune v2"),
    ]  # fmt: skip


def test_gguf_source_is_quantized_or_converted() -> None:
    url = {"general.source.repo_url": "https://huggingface.co/org/model"}
    relations = [
        from_metadata(REPO, "gguf", "m.gguf", url | {"general.file_type": kind})[0].relation
        for kind in ("15", "1", "32")
    ]
    assert relations == ["quantized", "converted", "converted"]
    elsewhere = {"general.source.url": "https://github.com/org/model"}
    assert from_metadata(REPO, "gguf", "m.gguf", elsewhere)[0].reason == "url"


def test_a_gguf_adapter_has_a_base() -> None:
    metadata = {
        "general.type": "adapter",
        "general.base_model.0.repo_url": "https://huggingface.co/org/model",
    }
    (found,) = from_metadata(REPO, "gguf", "m.gguf", metadata)
    assert (found.repo, found.relation) == ("org/model", "adapter")


def test_kohya_names_and_hashes() -> None:
    digest = "0123456789ABCDEF" * 4
    metadata = {
        "ss_sd_model_name": "runwayml/stable-diffusion-v1-5",
        "ss_new_sd_model_hash": digest,
        "ss_sd_model_hash": "None",
        "ss_base_model_version": "sd_v1",
    }
    found = from_metadata(REPO, "safetensors", "lora.safetensors", metadata)
    assert [(c.repo, c.reason, c.raw) for c in found] == [
        ("runwayml/stable-diffusion-v1-5", None, "runwayml/stable-diffusion-v1-5"),
        (None, "ambiguous", f"sha256:{digest.lower()}"),
        (None, "ambiguous", "ss_base_model_version=sd_v1"),
    ]
    assert {c.relation for c in found} == {"adapter"}


def test_kohya_files_and_folders_are_no_repositories() -> None:
    for name, reason in (
        ("v1-5-pruned-emaonly.safetensors", "local_path"),
        ("/workspace/sd/model.ckpt", "local_path"),
        ("stable-diffusion-v1-5", "ambiguous"),
    ):
        (found,) = from_metadata(REPO, "safetensors", "x", {"ss_sd_model_name": name})
        assert (found.repo, found.reason) == (None, reason)


def test_metadata_of_other_tools_claims_nothing() -> None:
    assert from_metadata(REPO, "safetensors", "x", {"format": "pt"}) == ()
    assert from_metadata(REPO, "gguf", "x", {"general.name": "org/x"}) == ()
