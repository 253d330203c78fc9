import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.transforms import v2

from instsynth_dagster.data.formats.cityscapes import CITYSCAPES
from instsynth_dagster.segmenters.shared.augmentation import (
    RandomScaleCrop,
    TrainingDraws,
    collate,
    instance_targets,
    instances_only,
)
from instsynth_dagster.segmenters.shared.imagenet import IMAGENET_MEAN
from tests.segmenters.toy import ToyDataset, tiny

CLASSES = ("person", "car", "motorcycle")


@pytest.mark.slow
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    height=st.integers(1, 11).map(lambda blocks: 8 * blocks),
    width=st.integers(1, 11).map(lambda blocks: 8 * blocks),
    crop=st.tuples(st.integers(8, 64), st.integers(8, 64)),
    scale=st.floats(0.6, 2.5),
    seed=st.integers(0, 2**31),
)
def test_image_and_ids_stay_aligned(height, width, crop, scale, seed):
    """An image that spells its own id map still does so after scaling, cropping and flipping."""
    coarse = np.random.default_rng(seed).integers(0, 2, (-(-height // 8), -(-width // 8)))
    ids = np.kron(coarse, np.ones((8, 8), int))[:height, :width].astype(np.int32) * 26001
    image = np.repeat((ids > 0)[None] * np.uint8(255), 3, axis=0)
    transform = v2.Compose([RandomScaleCrop(crop, (scale, scale)), v2.RandomHorizontalFlip()])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pixels, mask = transform(tv_tensors.Image(torch.from_numpy(image)), tv_tensors.Mask(torch.from_numpy(ids)))
    assert pixels.shape == (3, *crop)
    assert mask.shape == crop
    assert mask.dtype == torch.int32
    assert set(mask.unique().tolist()) <= {0, 26001}
    padding = (pixels == torch.tensor([round(255 * m) for m in IMAGENET_MEAN])[:, None, None]).all(0)
    assert not (mask[padding] > 0).any()
    inside = _eroded(mask > 0, 2)
    outside = _eroded((mask == 0) & ~padding, 2)
    assert (pixels[0][inside] > 127).all()
    assert (pixels[0][outside] < 128).all()


def _eroded(region, radius):
    """The pixels of a bool (H, W) region that are more than `radius` away from anything else in the picture."""
    other = torch.nn.functional.max_pool2d((~region)[None].float(), 2 * radius + 1, 1, radius)[0]
    return region & (other == 0)


def test_whole_image_at_scale_one_is_untouched():
    image = torch.arange(3 * 6 * 10, dtype=torch.uint8).reshape(3, 6, 10)
    assert torch.equal(RandomScaleCrop((6, 10), (1.0, 1.0))(tv_tensors.Image(image)), image)


def test_smaller_image_is_filled_with_the_mean_colour_at_right_and_bottom():
    image = tv_tensors.Image(torch.zeros(3, 6, 10, dtype=torch.uint8))
    out = RandomScaleCrop((8, 16), (1.0, 1.0))(image)
    assert not out[:, :6, :10].any()
    assert out[:, 6:].flatten(1).unique(dim=1).flatten().tolist() == [124, 116, 104]
    assert out[:, :, 10:].flatten(1).unique(dim=1).flatten().tolist() == [124, 116, 104]


def test_groups_stuff_and_other_classes_are_background():
    ids = torch.tensor([[26, 7, 26000], [32000, 24003, 24003], [27001, 29000, 0]], dtype=torch.int32)
    masks, labels = instance_targets(ids, CLASSES, labels=CITYSCAPES)
    assert labels.tolist() == [0, 1, 2]  # 24003, 26000, 32000 in the order of ids
    assert masks.dtype == torch.float32
    assert [mask.nonzero().tolist() for mask in masks] == [[[1, 1], [1, 2]], [[0, 2]], [[1, 0]]]


def test_empty_crop_has_targets_of_length_zero():
    masks, labels = instance_targets(torch.zeros(4, 5, dtype=torch.int32), CLASSES, labels=CITYSCAPES)
    assert masks.shape == (0, 4, 5)
    assert labels.shape == (0,)
    assert labels.dtype == torch.int64


def test_a_draw_is_a_pure_function_of_seed_and_number():
    state = torch.get_rng_state()
    draws = TrainingDraws(ToyDataset(), tiny(), instances_only(CLASSES, labels=CITYSCAPES), seed=5, draws=8)
    forwards = [draws[i] for i in range(4)]
    torch.manual_seed(99)
    again = TrainingDraws(ToyDataset(), tiny(), instances_only(CLASSES, labels=CITYSCAPES), seed=5, draws=8)
    for i in reversed(range(4)):
        for key, value in again[i].items():
            assert torch.equal(value, forwards[i][key])
    other = TrainingDraws(ToyDataset(), tiny(), instances_only(CLASSES, labels=CITYSCAPES), seed=6, draws=8)
    assert not torch.equal(other[0]["pixel_values"], forwards[0]["pixel_values"])
    torch.set_rng_state(state)


@pytest.mark.slow
def test_samples_with_rare_classes_are_drawn_more_often_where_asked():
    class Counted(ToyDataset):
        def __init__(self):
            super().__init__(20)
            self.classes_in[1:, 1] = False  # cars on the first sample only
            self.asked = []

        def __getitem__(self, index):
            self.asked.append(index)
            return super().__getitem__(index)

    shown = {}
    for threshold in (None, 0.2):
        dataset = Counted()
        draws = TrainingDraws(
            dataset, tiny(repeat_threshold=threshold), instances_only(CLASSES, labels=CITYSCAPES), seed=5, draws=105
        )
        for number in range(105):
            _ = draws[number]
        shown[threshold] = dataset.asked.count(0)
    assert shown[None] in (5, 6)
    assert shown[0.2] in (10, 11)  # sqrt(0.2 / 0.05) = 2 times in an epoch of 21


def test_draws_leave_the_global_generator_alone():
    draws = TrainingDraws(ToyDataset(), tiny(), instances_only(CLASSES, labels=CITYSCAPES), seed=5, draws=8)
    before = torch.get_rng_state()
    _ = draws[0]
    assert torch.equal(before, torch.get_rng_state())


def test_collate_stacks_pixels_and_lists_targets():
    draws = TrainingDraws(ToyDataset(), tiny(), instances_only(CLASSES, labels=CITYSCAPES), seed=5, draws=8)
    batch = collate([draws[0], draws[1]])
    assert batch["pixel_values"].shape == (2, 3, *tiny().crop)
    assert [len(m) for m in batch["mask_labels"]] == [len(c) for c in batch["class_labels"]]
