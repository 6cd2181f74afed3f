"""Filters over DNA against explicit windows on both strands, and the table of encodings that keys read."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dense_cis import same, same_gradients
from scweave.graphs.schema import BASES
from scweave.models.layers import sequence_encoder as module
from scweave.models.layers import sequence_keys
from scweave.models.layers.sequence_encoder import SequenceEncoder
from scweave.models.layers.sequence_keys import SequenceKeys

WIDTH, FILTERS, LENGTH = 3, 5, 4
N = BASES.index("N")


def make(length=LENGTH):
    torch.manual_seed(0)
    return SequenceEncoder(WIDTH, filters=FILTERS, length=length).double()


def random_codes(n=6, bases=11, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, N + 1, (n, bases), generator=generator, dtype=torch.uint8)


def codes_of(*texts):
    return torch.tensor([[BASES.index(base) for base in text] for text in texts], dtype=torch.uint8)


def reverse_complement(codes):
    return torch.where(codes == N, N, 3 - codes.long()).to(torch.uint8).flip(1)


def plain_encoding(encoder, codes):
    """The best window of every sequence and filter on either strand; N matches nothing."""
    weight, bias = encoder.motifs.weight, encoder.motifs.bias
    rows = []
    for sequence in codes.tolist():
        strands = (sequence, [N if base == N else 3 - base for base in reversed(sequence)])
        best = []
        for f in range(len(weight)):
            found = []
            for strand in strands:
                short = max(0, weight.shape[2] - len(strand))
                padded = [N] * short + strand + [N] * short
                for begin in range(len(padded) - weight.shape[2] + 1):
                    window = padded[begin : begin + weight.shape[2]]
                    found.append(
                        sum((weight[f, base, i] for i, base in enumerate(window) if base != N), bias[f])
                    )
            best.append(torch.relu(torch.stack(found).max()))
        rows.append(torch.stack(best))
    return encoder.read(torch.stack(rows))


@pytest.mark.parametrize("bases", [1, 3, 4, 5, 11])
def test_encodings_and_gradients_equal_explicit_windows(bases):
    encoder, codes = make(), random_codes(bases=bases)
    codes[0] = N
    ours, theirs = encoder(codes), plain_encoding(encoder, codes)
    same(ours, theirs)
    found = same_gradients(ours, theirs, dict(encoder.named_parameters()))
    assert all(grad.any() for grad in found.values())


@settings(max_examples=40, deadline=None)
@given(st.text(BASES, min_size=1, max_size=9), st.integers(1, 12))
def test_both_strands_encode_equally(text, length):
    encoder, codes = make(length), codes_of(text)
    torch.testing.assert_close(encoder(codes), encoder(reverse_complement(codes)), rtol=0, atol=1e-12)


def test_codes_complement_as_the_schema_says():
    assert torch.equal(reverse_complement(codes_of("AACGTN")), codes_of("NACGTT"))


def test_unknown_bases_around_a_sequence_do_not_count():
    encoder, flank = make(), "N" * LENGTH
    once = encoder(codes_of(flank + "ACGTTGA" + flank))
    same(once, encoder(codes_of(2 * flank + "ACGTTGA" + flank)))
    assert not torch.allclose(once, encoder(codes_of(flank + "ACGTCGA" + flank)))
    same(encoder(codes_of("NN")), encoder(codes_of("N" * 20)))


@pytest.mark.parametrize("rows", [1, 4, 512])
def test_chunks_and_checkpoints_change_nothing(rows, monkeypatch):
    encoder, codes = make(), random_codes()
    theirs = encoder.read(encoder._responses(codes))
    monkeypatch.setattr(module, "_ROWS", rows)
    ours = encoder(codes)
    same(ours, theirs)
    same_gradients(ours, theirs, dict(encoder.named_parameters()))
    with torch.no_grad():
        assert torch.equal(encoder(codes), ours)


def test_no_sequences_have_no_encodings():
    assert make()(random_codes(n=0)).shape == (0, WIDTH)


def make_keys(codes=None):
    torch.manual_seed(0)
    codes = random_codes(bases=16) if codes is None else codes
    return SequenceKeys(codes, 6, WIDTH, FILTERS).double()


def test_dna_adds_nothing_to_keys_at_first():
    keys = make_keys()
    keys.read_all()
    assert torch.equal(keys(), torch.zeros(6, WIDTH).double())


@pytest.mark.parametrize("rows", [2, 4096])
def test_all_peaks_are_read_anew(rows, monkeypatch):
    monkeypatch.setattr(sequence_keys, "_ROWS", rows)
    keys = make_keys()
    keys.mix.weight.data.normal_()
    keys.read_all()
    expected = keys.encoder(keys.codes)
    same(keys.encoded, expected.detach())
    same(keys(), expected @ keys.mix.weight.T)


def test_a_step_reads_some_peaks_with_gradients_and_takes_the_others_as_they_were():
    keys = make_keys()
    keys.mix.weight.data.normal_()
    keys.encoded.normal_()
    before, peaks = keys.encoded.clone(), torch.tensor([4, 1])
    fresh = keys.read(peaks)
    theirs = keys.encoder(keys.codes)
    table = torch.stack([theirs[i] if i in (1, 4) else before[i] for i in range(6)])
    ours = keys(peaks, fresh)
    same(ours, table @ keys.mix.weight.T)
    same_gradients(ours, table @ keys.mix.weight.T, dict(keys.named_parameters()))
    same(keys.encoded, table.detach())
    assert not keys.encoded.requires_grad


def test_a_model_without_dna_keeps_the_encodings_it_has():
    keys = make_keys()
    keys.mix.weight.data.normal_()
    keys.read_all()
    again = make_keys(torch.zeros(0, 0, dtype=torch.uint8))
    again.load_state_dict(keys.state_dict())
    again.read_all()
    assert "codes" not in keys.state_dict()
    assert torch.equal(again(), keys())
