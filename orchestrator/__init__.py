"""Schedules, records, resumes, fits, reports."""
