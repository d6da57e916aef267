from interp.families.base import ImageView, family


def test_grids_follow_the_tiles_and_the_unpadding(check_grids):
    check_grids("llava_onevision", [(60, 60)], [(90, 41)], [(41, 77)], [(115, 20)], [(11, 7)])


def test_grids_of_large_images_are_shrunk(check_grids, tiny, prompts):
    check_grids("llava_onevision", [(118, 104)], [(95, 120)])
    model, processor = tiny("llava_onevision")
    record = family("llava_onevision")
    inputs = prompts.prepare(record, processor, ([prompts.picture((120, 120))], "Why?"))
    joined = record.grids(ImageView(processor, model.config, inputs, 0, (120, 120)))[-1]
    assert (joined.rows, joined.cols) == (12, 12)  # 16 × 16 patches are more than 9 tiles of 4 × 4


def test_grids_of_several_images(check_grids):
    check_grids("llava_onevision", [(70, 40), (30, 90)], [(20, 33), (40, 40), (61, 10)])


def test_model(check_model):
    check_model("llava_onevision")
