"""Storage `drbd`: an application's replicated resource. DRBD 8.4 was measured; 9 is as its source and manual say."""
