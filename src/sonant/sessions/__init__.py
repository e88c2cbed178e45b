"""Live calls: streams of audio, what is heard in them, and what it means for a session.

bytes of a carrier --adapters--> Call and samples --intake, stream--> speech --pool--> hearings in the store
EvaluateSession --evaluation--> decision, from hearings, the session's set-up and the speaker
"""
