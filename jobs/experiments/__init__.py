"""Experiments on mixtures. Results go to docs/results as data, and docs/results.md says what they are.

    make experiment NAME=demo                             or python -m chameleon_data.jobs.experiments demo
    make experiment NAME=pretraining CORPORA=FOLDER       FOLDER holds a folder of files for each domain

Each of these is a recipe that is built and evaluated; ${CORPORA} in it is the folder. Modules whose names begin with `weights_`
measure weights without training, each by its own command.
"""
