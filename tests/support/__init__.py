"""What several tests share: corpora, builds in one process, other projects' readers, hostile files, paths."""
