"""Who is worth asking: prompt -> scores -> top-k -> capacity -> dispatch, as in `sparse_moe`.

`protocol` says what a gate is. Its kinds: `rules`, `neighbours` and `network`, which read the question, and
`cascade`, which also reads the answers that are there. `training` makes them of recorded answers, `saved`
keeps them, `online` lets one go on learning.
"""
