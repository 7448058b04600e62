//! Fuzz targets: plain functions over bytes.
