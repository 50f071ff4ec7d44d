"""Experiments on mixtures: each a recipe or a module, and one command. Results go to docs/results as data.

    make experiment NAME=synthetic                        or python -m chameleon_data.jobs.experiments synthetic
    make experiment NAME=pretraining CORPORA=FOLDER       FOLDER holds a folder of files for each domain

A recipe is built and evaluated; ${CORPORA} in it is the folder. A module measures something else.
"""
