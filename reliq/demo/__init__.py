"""The demo: a shop's mails, delivered over SMTP by workers of which one is killed, and accounted for one by one."""
