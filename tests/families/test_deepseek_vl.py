def test_grids_follow_the_padding(check_grids):
    check_grids("deepseek_vl", [(28, 28)], [(90, 40)], [(41, 97)], [(11, 7)], [(300, 5)])


def test_grids_of_two_images(check_grids):
    check_grids("deepseek_vl", [(50, 31), (30, 64)])


def test_model(check_model):
    check_model("deepseek_vl")
