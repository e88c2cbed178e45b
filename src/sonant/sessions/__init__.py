"""Live calls: audio streams, the speech found in them, and what it means for a session.

```
carrier --Call, samples--> manager, stream --> listener (speech detection) --requests--> actions
    actions --> worker_pool (embeddings) --> retry_queue --> records, enrollment (the store)
EvaluateSession --> decisions, from the analyzed speech, the session's set-up and its speaker
```
"""
