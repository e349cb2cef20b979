"""One module per task: arrays, augmentation, loss, scores, arms and profiles in one place.

    from course_utils.tasks import hippocampus
    x, y = hippocampus.slices(data.train)

`EXPERIMENTS` of each module is what `experiments` runs and records. A new task is one file here,
and its name in `experiments`.
"""
