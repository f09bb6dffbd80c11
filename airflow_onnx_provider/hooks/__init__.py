"""Airflow hooks and their connections."""
