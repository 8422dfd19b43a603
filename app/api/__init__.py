"""The named endpoints: what programs and MCP clients call."""
