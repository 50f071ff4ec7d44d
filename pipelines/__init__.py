"""The passes over the data, on Ray. Installed as `chameleon_data.pipelines`; imports everything but jobs."""
